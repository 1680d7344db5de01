"""Evaluation while training: k-NN and zero-shot of the moving average on labelled videos, and the best encoder kept.

Training does not notice it: generators, modes and gradients are afterwards as they were, so that weights with and without it
are the same bits.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vidssl.distributed import on_first
from vidssl.evaluation.classes import find_classes, join_labels, resolve_templates
from vidssl.evaluation.metrics import classification_scores
from vidssl.evaluation.probes.knn import knn_scores
from vidssl.evaluation.probes.splits import Frozen, Splits, read_splits
from vidssl.evaluation.setup import EvalOptions, Subject
from vidssl.evaluation.texts.classifier import text_classifier
from vidssl.evaluation.zero_shot import zero_shot_scores
from vidssl.files import read_json, write_json
from vidssl.models.encoder import VideoEncoder
from vidssl.models.export import save_encoder
from vidssl.training.setup import Run
from vidssl.training.sharding import whole_copy

BEST, BEST_RECORD = "best", "best.json"


class Periodic:
    """The evaluations of a run; does nothing where the recipe asks for none.

    What it finds is logged as ``evaluation/knn`` and ``evaluation/zero_shot`` (top-1 in [0, 1]). In the run folder ``best/`` is
    the exported encoder of the highest `evaluate.metric` so far, the earlier one of equals, and ``best.json`` says which.
    What is wrong with the videos is found when the run is set up (`videos.check_evaluation`).
    """

    def __init__(self, run: Run) -> None:
        self.run, self.wanted = run, run.config.evaluate

    def is_due(self, step: int) -> bool:
        """Whether it is done after so many steps."""
        return self.wanted is not None and (step % self.wanted.every == 0 or step == self.run.total_steps)

    def __call__(self) -> dict[str, Tensor]:
        """Evaluate, and keep the encoder if it is the best so far. Every process has to call this."""
        assert self.wanted is not None
        run, wanted = self.run, self.wanted
        options = EvalOptions(
            clips=wanted.clips, workers=run.config.data.workers, backend=run.config.data.decoder, cache=False
        )
        encoder, device = run.averaged.encoder, run.accelerator.device
        with _as_it_was(encoder):
            if run.split:
                encoder = whole_copy(encoder)
            subject = Subject(run.folder, encoder, None, options, device)
            splits = read_splits(subject, wanted.train, wanted.val, motion=False)
            [frozen] = splits.frozen()
            scores = on_first(lambda: self._scores(splits, frozen))
            if on_first(lambda: self._is_best(scores)):
                on_first(lambda: self._keep(scores, encoder))
        return {f"evaluation/{name}": torch.tensor(score) for name, score in scores.items()}

    def _scores(self, splits: Splits, frozen: Frozen) -> dict[str, float]:
        assert self.wanted is not None
        assert splits.indices is not None
        scores: dict[str, float] = {}
        tested = splits.indices[1]
        for protocol in self.wanted.protocols:
            if protocol == "knn":
                k = min(self.wanted.k, len(frozen.labels))
                rows = knn_scores(frozen.train, frozen.labels, frozen.test, k, len(splits.names))
                own = splits.test_labels
            else:
                encoder = self.run.averaged.encoder
                listed = find_classes(Path(self.wanted.val), tested.classes, None)
                texts = text_classifier(encoder, listed, resolve_templates(None, listed)).cpu()
                rows = zero_shot_scores(splits.test.features["trained/unit"], texts)
                own = join_labels(tested.labels, listed, self.wanted.val).ids
            scores[protocol] = float(classification_scores(rows, own, frozen.ok)["top1"])
        return scores

    def _is_best(self, scores: dict[str, float]) -> bool:
        assert self.wanted is not None
        file, metric = self.run.folder / BEST_RECORD, self.wanted.metric
        best = read_json(file) if file.is_file() else {}
        return best.get("metric") != metric or best["score"] < scores[metric]

    def _keep(self, scores: dict[str, float], encoder: VideoEncoder) -> None:
        assert self.wanted is not None
        run, metric = self.run, self.wanted.metric
        save_encoder(encoder, run.folder / BEST)
        record = {"metric": metric, "score": scores[metric], "step": run.step, "all": scores}
        write_json(run.folder / BEST_RECORD, record)


@contextmanager
def _as_it_was(module: nn.Module) -> Iterator[None]:
    """A block after which generators and the module's modes are what they were before."""
    modes = {part: part.training for part in module.modules()}
    drawn, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            module.eval()
            yield
        finally:
            for part, training in modes.items():
                part.training = training
            random.setstate(drawn)
            np.random.set_state(numbers)  # noqa: NPY002
