"""One object as a box: finding it again (`single_object/`), and how well that was done."""

from vidssl.evaluation.tracking.single_object.filters import CorrelationFilter, correlation_response
from vidssl.evaluation.tracking.single_object.scores import (
    THRESHOLDS,
    normalised_precision,
    precision,
    success_auc,
    success_curve,
)
from vidssl.evaluation.tracking.single_object.tracker import track_box

__all__ = [
    "THRESHOLDS",
    "CorrelationFilter",
    "correlation_response",
    "normalised_precision",
    "precision",
    "success_auc",
    "success_curve",
    "track_box",
]
