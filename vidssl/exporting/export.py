"""`vidssl export`: an encoder in the format of another library, checked against the original before the folder is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from vidssl.errors import check_choice, check_value
from vidssl.exporting.check import TOLERANCE, apart, check
from vidssl.exporting.clips import check_clips
from vidssl.exporting.formats.clip_folder import OPEN_CLIP
from vidssl.exporting.formats.form import Format
from vidssl.exporting.formats.onnx_graph import ONNX
from vidssl.exporting.formats.own import OWN
from vidssl.exporting.formats.torch_program import TORCH_EXPORT
from vidssl.exporting.formats.transformers_folder import HUGGING_FACE
from vidssl.exporting.image_tower import image_tower
from vidssl.exporting.places import without_places
from vidssl.files import require_new_folder, whole_folder, write_json
from vidssl.models.load import load_encoder
from vidssl.version import __version__

FORMATS: dict[str, Format] = {
    "vidssl": OWN,
    "open_clip": OPEN_CLIP,
    "torch-export": TORCH_EXPORT,
    "onnx": ONNX,
    "transformers": HUGGING_FACE,
}
RECORD = "export.json"


def export(
    source: str | Path,
    output: str | Path,
    format: str = "vidssl",
    *,
    videos: Sequence[str | Path] = (),
    frames: int | None = None,
    size: int | None = None,
    alone: bool = False,
) -> dict[str, Any]:
    """Write an encoder as others can load it. The folder appears complete and checked, or not at all.

    Args:
        source: whatever `vidssl.load_encoder` takes.
        output: the folder, which must not be there or be empty; parents are created.
        format: one of `FORMATS`.
        videos: files whose clips the export is checked on, see `check_clips`.
        frames, size: T and pixels a side of the clips. Programs (torch-export, onnx) are for these only.
        alone: write the image tower alone, as a mean over frames, without what was learned of time.

    Returns:
        JSON-able, as in `export.json` of the folder: format, model, input, check.

    Raises:
        VidsslError: when the format has no place for the encoder, features differ by more than the check allows, or the folder
            is there.
    """
    output = Path(output)
    check_choice("format", format, FORMATS)
    require_new_folder(output)
    form = FORMATS[format]
    original = load_encoder(source).requires_grad_(False)
    encoder = image_tower(original) if alone else original
    form.require(encoder)
    encoder.spec = without_places(encoder.spec)
    if form.images:
        check_value(
            "size", size, size in (None, encoder.image_size), f"that of the model, {encoder.image_size}"
        )
        size = encoder.image_size
    shown = check_clips(encoder, videos, frames, size)
    with _nothing_left(output), whole_folder(output) as folder, torch.no_grad():
        said = form.write(encoder, folder, shown.clips)
        agreement = check(encoder, form.read(folder), shown.clips, f"{output}: as {format}")
        _, _, length, side, _ = shown.clips.shape
        record: dict[str, Any] = {
            "format": format,
            "vidssl": __version__,
            "torch": torch.__version__,
            "model": encoder.spec["name"],
            "temporal": encoder.spec.get("temporal"),
            "input": {"frames": length, "size": side, "mean": list(encoder.mean), "std": list(encoder.std)},
            "check": {"clips": shown.names, "tolerance": TOLERANCE, **agreement.record},
            **said,
        }
        if "read" in encoder.spec:
            record["read"] = encoder.spec["read"]
        if alone:
            record["left_out"] = _left_out(original, encoder, shown.clips)
        write_json(folder / RECORD, record)
    return record


def _left_out(original: Any, encoder: Any, clips: torch.Tensor) -> dict[str, Any]:
    """What the image tower alone lacks: the mode, and by how much its features of clips differ from the original's."""
    wanted, given = original(clips).clip, encoder(clips).clip
    difference = (wanted - given).abs().max().item()
    return {"temporal": original.spec.get("temporal"), "difference": difference, "between": apart(wanted)}


@contextmanager
def _nothing_left(folder: Path) -> Iterator[None]:
    """A block that writes a folder: where it fails, the parents that it made for it are removed again."""
    made = [parent for parent in folder.absolute().parents if not parent.exists()]
    try:
        yield
    except BaseException:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        raise
