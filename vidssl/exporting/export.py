"""`vidssl export`: an encoder in the format of another library, checked against the original before the folder is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from vidssl.errors import VidsslError, check_choice, check_value
from vidssl.exporting.card import README, card
from vidssl.exporting.check import TOLERANCE, apart, check
from vidssl.exporting.clips import check_clips
from vidssl.exporting.formats.clip_folder import OPEN_CLIP
from vidssl.exporting.formats.form import Format
from vidssl.exporting.formats.onnx_graph import ONNX
from vidssl.exporting.formats.own import OWN
from vidssl.exporting.formats.torch_program import TORCH_EXPORT
from vidssl.exporting.formats.transformers_folder import HUGGING_FACE
from vidssl.exporting.history import history
from vidssl.exporting.image_tower import image_tower
from vidssl.exporting.places import without_places
from vidssl.exporting.push import push, repo_of, require_login
from vidssl.files import require_new_folder, whole_folder, write_json, write_text
from vidssl.models.load import load_encoder
from vidssl.models.towers.text import TextEncoder
from vidssl.progress import Progress
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
    words: str | Path | None = None,
    licence: str | None = None,
    push_to: str | None = None,
    private: bool = False,
) -> dict[str, Any]:
    """Write an encoder as others can load it. The folder appears complete and checked, or not at all.

    Args:
        source: whatever `vidssl.load_encoder` takes.
        output: the folder, which must not be there or be empty; parents are created.
        format: one of `FORMATS`.
        videos: files whose clips the export is checked on, see `check_clips`.
        frames, size: T and pixels a side of the clips. Programs (torch-export, onnx) are for these only.
        alone: write the image tower alone, as a mean over frames, without what was learned of time.
        words: file with Markdown of the author's own for the card, `README.md` in the folder.
        licence: of the weights, as the hub names it.
        push_to: ``hub:ORG/NAME``, where the folder is uploaded to when it is there. private: whether a new repository is.

    Returns:
        JSON-able, as in `export.json` of the folder: format, model, input, check; and `pushed`, the address of the commit.

    Raises:
        VidsslError: when the format has no place for the encoder, features differ by more than the check allows, the folder
            is there, or nobody is logged in who could push it.
    """
    output = Path(output)
    check_choice("format", format, FORMATS)
    require_new_folder(output)
    repo = None if push_to is None else repo_of(push_to)
    own_words = None if words is None else _text(Path(words))
    if repo is not None:
        require_login(repo)
    form, past = FORMATS[format], history(source)
    original = load_encoder(source).requires_grad_(False)
    encoder = image_tower(original) if alone else original
    form.require(encoder)
    encoder.spec = without_places(encoder.spec)
    if isinstance(encoder.text, TextEncoder):
        encoder.text.tokenizer_spec = without_places(encoder.text.tokenizer_spec)
    if form.images:
        check_value(
            "size", size, size in (None, encoder.image_size), f"that of the model, {encoder.image_size}"
        )
        size = encoder.image_size
    shown = check_clips(encoder, videos, frames, size)
    parts = Progress("export", 2, "part", delay=1)
    with parts, _nothing_left(output), whole_folder(output) as folder, torch.no_grad():
        said = form.write(encoder, folder, shown.clips)
        parts.update()
        agreement = check(encoder, form.read(folder), shown.clips, f"{output}: as {format}")
        parts.update()
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
        title = output.absolute().name if repo is None else repo
        began = encoder.spec.get("pretrained")
        text = card(title, record, form, past, pretrained=began, licence=licence, words=own_words, repo=repo)
        write_text(folder / README, text)
    if repo is not None:
        record["pushed"] = push(output, repo, private)
    return record


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VidsslError(f"--card {file}: cannot be read: {error}") from None


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
