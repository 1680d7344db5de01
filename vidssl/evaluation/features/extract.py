"""`vidssl extract`: the features of every video of a folder, as a file."""

from __future__ import annotations

from collections.abc import Collection, Set
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from vidssl import distributed
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError, check_choice, counted
from vidssl.evaluation.features.means import extract_features
from vidssl.evaluation.report import Result, data_record, result_header
from vidssl.evaluation.results.protocol import sealed
from vidssl.evaluation.setup import EvalOptions, load_subject
from vidssl.files import read_json, whole_file, write_json, write_tensors
from vidssl.models.weights import read_tensors


def extract(
    checkpoint: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    pooling: str = "clip",
    apart: bool = False,
    options: EvalOptions | None = None,
) -> Result:
    """Write the clip features (N, D) of every video of a folder to `output` (safetensors), names to a JSON beside it.

    Tensors: ``features`` float32 and ``ok`` bool; the rows of videos that are unreadable, or whose features are not finite,
    are zero and not ok, and named in the JSON. Files already there are replaced, unless they hold features of videos that
    have none now.

    Args:
        pooling: "clip", the encoder's own, or "unit", the mean of the unit-length frame features.
        apart: (N, V, D) of all clips and crops instead of their means, the crops of a clip next to each other, and ``shown``
            (N, V) bool, False for a clip of the same frames as an earlier one, whose row is zero.

    Raises:
        VidsslError: in that case, for another pooling, and for an `output` of another ending than .safetensors.
    """
    check_choice("pooling", pooling, ("clip", "unit"))
    names_file = names_beside(output)
    subject = replace(load_subject(checkpoint, options), untrained=None)
    index = VideoIndex.read(data, subject.options.missing)
    features = extract_features(subject, index, apart=apart, description="extract")
    name = "trained" if pooling == "clip" else "trained/unit"
    rows = features.features[name]
    about = {
        **result_header("extract", subject),
        "shape": list(rows.shape),
        "pooling": pooling,
        "data": data_record(data, index, features.failures, fewer_clips=features.fewer_clips),
        "videos": [
            {"path": path, "label": label} for path, label in zip(index.paths, index.labels, strict=True)
        ],
    }
    record = sealed(about)
    if distributed.rank() == 0:
        failed = [index.paths[failure.video_id] for failure in features.failures]
        refuse_loss(output, _lost(Path(output), names_file, {*failed, *index.missing}))
        with whole_file(output) as tensors, whole_file(names_file) as names:  # both or none
            shown = {"shown": features.shown} if apart else {}
            write_tensors(tensors, {"features": rows, "ok": features.ok[name], **shown})
            write_json(names, record)
    return record


def names_beside(output: str | Path) -> Path:
    """The JSON with the names of the videos whose features are in `output`.

    Raises:
        VidsslError: for an `output` with another ending than that of the format it is written in.
    """
    names_file = Path(output).with_suffix(".json")
    if Path(output).suffix != ".safetensors":
        raise VidsslError(f"{output}: the features need the ending .safetensors; names go into {names_file}")
    return names_file


def refuse_loss(output: str | Path, lost: Collection[str]) -> None:
    """Keep features of videos that have none now.

    Args:
        output: the file that has them.
        lost: the videos' names.

    Raises:
        VidsslError: if there are any.
    """
    if lost:
        raise VidsslError(
            f"{output}: left as it is: it has features of {counted(len(lost), 'video')} that could not be read now, such as "
            f"{min(lost)}; write to another file"
        )


def with_tensors(names_file: Path) -> set[str]:
    """The videos that have a tensor in an earlier extraction, which writes one for each."""
    with suppress(VidsslError, KeyError, TypeError):  # it is none of ours
        return {video["path"] for video in read_json(names_file)["videos"] if video["tensor"] is not None}
    return set()


def _lost(output: Path, names_file: Path, failed: Set[str]) -> list[str]:
    """Those of the videos without features that have some in an earlier extraction."""
    if not failed or not output.is_file():
        return []
    with suppress(VidsslError, KeyError, TypeError):  # it is none of ours
        videos, ok = read_json(names_file)["videos"], read_tensors(output)["ok"].tolist()
        return [
            video["path"] for video, had in zip(videos, ok, strict=False) if had and video["path"] in failed
        ]
    return []
