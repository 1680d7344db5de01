"""Frames of any size → patch features on a grid: of any encoder and layer, and of plain pixels beside them."""

from vidssl.models.patches.features import PatchFeatures
from vidssl.models.patches.pixels import RawPixels

__all__ = ["PatchFeatures", "RawPixels"]
