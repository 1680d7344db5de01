"""Clips to features, once: what was decoded and encoded is kept, and every protocol reads it."""

from vidssl.evaluation.features.means import FeatureSet, extract_features
from vidssl.evaluation.features.sources import motion_energy

__all__ = ["FeatureSet", "extract_features", "motion_energy"]
