"""`vidssl extract`: the features of every video of a folder, as a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vidssl import distributed
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.evaluation.features import extract_features
from vidssl.evaluation.report import Result, data_record, result_header
from vidssl.evaluation.setup import EvalOptions, load_subject
from vidssl.files import write_json, write_tensors


def extract(
    checkpoint: str | Path, data: str | Path, output: str | Path, *, options: EvalOptions | None = None
) -> Result:
    """Write the clip features (N, D) of every video of a folder to `output` (safetensors), names to a JSON beside it.

    Tensors: ``features`` float32 and ``ok`` bool; the rows of videos that are unreadable, or whose features are not finite,
    are zero and not ok, and named in the JSON.
    """
    subject = replace(load_subject(checkpoint, options), untrained=None)
    index = VideoIndex.read(data, subject.options.missing)
    features = extract_features(subject, index, description="extract")
    rows = features.features["trained"]
    record = {
        **result_header("extract", subject),
        "shape": list(rows.shape),
        "data": data_record(data, index, features.failures, fewer_clips=features.fewer_clips),
        "videos": [
            {"path": path, "label": label} for path, label in zip(index.paths, index.labels, strict=True)
        ],
    }
    if distributed.rank() == 0:
        write_tensors(output, {"features": rows, "ok": features.ok["trained"]})
        write_json(Path(output).with_suffix(".json"), record)
    return record
