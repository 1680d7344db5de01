"""Latent distribution matching: a model of motion in the latents."""

from vidssl.objectives.ldm.models import PUBLISHED as PUBLISHED
from vidssl.objectives.ldm.objective import LDM as LDM
