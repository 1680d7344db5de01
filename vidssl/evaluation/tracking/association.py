"""Many objects: which detections are the same one, and how well that was found (`many_objects/`)."""

from vidssl.evaluation.tracking.many_objects.assignment import assign
from vidssl.evaluation.tracking.many_objects.similarity import reconstruction_cost

__all__ = ["assign", "reconstruction_cost"]
