"""Features to numbers: zero-shot classification, probes and their baselines."""

from vidssl.evaluation.classify import classify
from vidssl.evaluation.features.draws import extract_draws
from vidssl.evaluation.features.extract import extract
from vidssl.evaluation.probes.attentive import AttentiveOptions, attentive_probe
from vidssl.evaluation.probes.finetune import finetune
from vidssl.evaluation.probes.knn import knn, knn_accuracy
from vidssl.evaluation.probes.linear import LinearOptions, linear_probe
from vidssl.evaluation.probes.tuning import TuningOptions
from vidssl.evaluation.retrieval import retrieval
from vidssl.evaluation.setup import EvalOptions
from vidssl.evaluation.zero_shot import zero_shot

__all__ = [
    "AttentiveOptions",
    "EvalOptions",
    "LinearOptions",
    "TuningOptions",
    "attentive_probe",
    "classify",
    "extract",
    "extract_draws",
    "finetune",
    "knn",
    "knn_accuracy",
    "linear_probe",
    "retrieval",
    "zero_shot",
]
