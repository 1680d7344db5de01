"""`vidssl finetune`: the whole encoder tuned on all labels or few, and tested once."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidssl import distributed
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.evaluation.features.blocks import block_rows, encode_blocks
from vidssl.evaluation.features.means import mean_over_views
from vidssl.evaluation.features.sources import CLIP, Source
from vidssl.evaluation.probes.few import chosen_rows
from vidssl.evaluation.probes.splits import Frozen, read_splits
from vidssl.evaluation.probes.tuning import Classifier, TuningOptions, tune
from vidssl.evaluation.report import Result, result_header
from vidssl.evaluation.results.protocol import sealed
from vidssl.evaluation.setup import EvalOptions, Subject, load_subject
from vidssl.files import require_new_folder
from vidssl.models.export import save_encoder


def finetune(
    checkpoint: str | Path,
    train: str | Path,
    val: str | Path,
    *,
    fit: TuningOptions | None = None,
    save: str | Path | None = None,
    options: EvalOptions | None = None,
) -> Result:
    """Tune an encoder, and the one it started from alike, on the videos of `train`; test each once.

    Nothing is chosen: rates and epochs are as given. The class scores of a test video are means over its clips and crops.

    Args:
        fit: how it is tuned.
        save: folder to export the tuned encoder to, without its head.

    Returns:
        JSON-able result; ``scores`` holds the trained encoder, the untrained one, majority and chance.

    Raises:
        VidsslError: on several processes, for a `save` that is not empty, or a loss that is not finite.
    """
    how = fit or TuningOptions()
    if distributed.world_size() > 1:
        raise VidsslError("finetune: runs in one process; start it without accelerate launch")
    if save is not None:
        require_new_folder(Path(save))
    subject = load_subject(checkpoint, options)
    splits = read_splits(subject, train, val, motion=False)
    assert splits.indices is not None
    encoders = {"trained": subject.encoder, "untrained": subject.untrained}
    predictions, losses, used = {}, {}, 0
    for frozen in splits.frozen():
        encoder = encoders[frozen.title]
        assert encoder is not None
        rows = frozen.usable.nonzero()[:, 0]
        if how.shots is not None:
            draw = np.random.default_rng([how.seed, how.shots, 0])
            rows = chosen_rows(splits.train_labels, frozen.usable, how.shots, draw)
        classifier = Classifier(copy.deepcopy(encoder), len(splits.names), how.seed).to(subject.device)
        index, used = splits.indices[0].subset(rows.tolist()), len(rows)
        losses[frozen.title] = tune(
            classifier, subject, index, splits.train_labels[rows], how, f"finetune, {frozen.title}"
        )
        predictions[frozen.title] = (frozen, _scores(classifier, subject, splits.indices[1], frozen))
        if save is not None and frozen.title == "trained":
            save_encoder(classifier.encoder, save)
    record = {
        **result_header("finetune", subject),
        **splits.record,
        "tuning": {**asdict(how), "scale": list(how.scale)},
        "tuned_on": used,
        "losses": losses,
        **({"saved": str(save)} if save is not None else {}),
        **splits.scored(predictions),
    }
    record["notes"] += splits.suspicions(predictions)
    return sealed(record)


def _scores(classifier: Classifier, subject: Subject, index: VideoIndex, frozen: Frozen) -> Tensor:
    """(M, K) class scores of the test videos."""
    source = Source("tuned", "", (CLIP,), lambda clips: {CLIP: classifier(clips)})
    rows = block_rows(len(index), subject.options.batch_size)
    wanted = [(video, [source]) for video in range(len(index))]
    logits = torch.zeros(len(index), classifier.head.out_features)
    for block in encode_blocks(subject, index, wanted, rows, f"test, {frozen.title}"):
        found = block.rows["tuned"][CLIP]
        shown = block.new.repeat_interleave(found.shape[1] // block.new.shape[1], dim=1)
        logits[block.ids] = mean_over_views(found, shown)
    return logits
