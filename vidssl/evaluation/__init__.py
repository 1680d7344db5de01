"""Features to numbers: zero-shot classification, probes and their baselines."""

from vidssl.evaluation.jobs import classify, extract, knn, linear_probe, zero_shot
from vidssl.evaluation.knn import knn_accuracy
from vidssl.evaluation.setup import EvalOptions

__all__ = ["EvalOptions", "classify", "extract", "knn", "knn_accuracy", "linear_probe", "zero_shot"]
