"""Many objects: which detections are the same one, and how well that was found (`many_objects/`)."""

from vidssl.evaluation.tracking.many_objects.assignment import assign
from vidssl.evaluation.tracking.many_objects.clear import clear_mot, clear_mots
from vidssl.evaluation.tracking.many_objects.comparing import Comparison, compare_boxes, compare_masks
from vidssl.evaluation.tracking.many_objects.detections import JHMDB, Detections, Skeleton
from vidssl.evaluation.tracking.many_objects.distractors import without_distractors
from vidssl.evaluation.tracking.many_objects.higher_order import hota, hota_scores
from vidssl.evaluation.tracking.many_objects.identity import identity_f1, identity_scores
from vidssl.evaluation.tracking.many_objects.life import RULES
from vidssl.evaluation.tracking.many_objects.motion import BoxFilter, fuse_motion
from vidssl.evaluation.tracking.many_objects.similarity import reconstruction_cost
from vidssl.evaluation.tracking.many_objects.tracker import Tracked, track_objects

__all__ = [
    "JHMDB",
    "RULES",
    "BoxFilter",
    "Comparison",
    "Detections",
    "Skeleton",
    "Tracked",
    "assign",
    "clear_mot",
    "clear_mots",
    "compare_boxes",
    "compare_masks",
    "fuse_motion",
    "hota",
    "hota_scores",
    "identity_f1",
    "identity_scores",
    "reconstruction_cost",
    "track_objects",
    "without_distractors",
]
