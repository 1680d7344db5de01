"""Concept spaces on disk: one safetensors file whose header holds the words as JSON; and a cache of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from vidssl import distributed
from vidssl.concepts.build import Progress, build_space, space_key
from vidssl.concepts.prompts import ConceptFile
from vidssl.concepts.space import SPACE_FORMAT, ConceptSpace, SpaceInfo, Whitening
from vidssl.concepts.text_towers import TextTower
from vidssl.concepts.vocabulary import DEFAULT_VOCABULARY, load_concepts
from vidssl.errors import VidsslError
from vidssl.files import write_tensors
from vidssl.progress import progress_bar

_TENSORS = ("category", "description", "sentences", "counts")


def save_space(space: ConceptSpace, path: str | Path) -> Path:
    """Write a space, whole or not at all; parent folders are created, a file already there is replaced.

    Args:
        space: what to write.
        path: of the file, ``….safetensors``.

    Raises:
        VidsslError: for another suffix.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise VidsslError(f"{path}: a concept space is written as a .safetensors file")
    metadata = {"format": SPACE_FORMAT, "info": space.info.model_dump_json(), "sha256": space.sha256}
    return write_tensors(path, {name: getattr(space, name) for name in _TENSORS}, metadata)


def load_space(path: str | Path, text_encoder: TextTower | str | None = None) -> ConceptSpace:
    """Read a space.

    Args:
        path: of the file.
        text_encoder: the tower it is to be used with, or that tower's fingerprint; None checks nothing.

    Raises:
        VidsslError: when the file is no concept space or damaged, or was built with another text encoder (naming both
            fingerprints).
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != SPACE_FORMAT:
                raise VidsslError(
                    f"no concept space: format {metadata.get('format')!r}, not {SPACE_FORMAT!r}"
                )
            info = SpaceInfo.model_validate_json(metadata["info"])
            space = ConceptSpace(info, *(file.get_tensor(name) for name in _TENSORS))
    except FileNotFoundError:
        raise VidsslError(f"{path}: no such file") from None
    except (
        OSError,
        SafetensorError,
        ValueError,
        KeyError,
    ) as error:  # ValueError: also VidsslError and pydantic's
        raise VidsslError(
            f"{path}: cannot be read as a concept space ({str(error).split(chr(10))[0][:120]})"
        ) from None
    if space.sha256 != metadata.get("sha256"):
        raise VidsslError(f"{path}: damaged: its content does not have the sha256 it states")
    if text_encoder is not None:
        space.check_encoder(text_encoder, str(path))
    return space


def cached_space(
    concepts: ConceptFile,
    text_encoder: TextTower,
    *,
    templates: str | Sequence[str] | None = None,
    whiten: Whitening = "none",
    merge_threshold: float | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
    folder: str | Path | None = None,
) -> ConceptSpace:
    """`build_space`, done once for the same words, encoder and options.

    With several processes the first one builds, the others read what it wrote, and all end with the very same numbers,
    also where they do not share a disk.

    Args:
        folder: where spaces are kept; by default ``concepts`` in the user's cache folder.

    Raises:
        VidsslError: as `build_space`.
    """
    key = space_key(
        concepts, text_encoder, templates=templates, whiten=whiten, merge_threshold=merge_threshold
    )
    file = (_cache_folder() if folder is None else Path(folder)) / f"{key[:32]}.safetensors"

    def get() -> ConceptSpace:
        if file.is_file():
            try:
                space = load_space(file, text_encoder)
                if space.info.key == key:
                    return space
            except VidsslError:
                pass  # damaged: built anew
        space = build_space(
            concepts,
            text_encoder,
            templates=templates,
            whiten=whiten,
            merge_threshold=merge_threshold,
            batch_size=batch_size,
            progress=progress,
        )
        with suppress(OSError):  # a cache that cannot be written costs time, not the run
            save_space(space, file)
        return space

    return _same_everywhere(get) if distributed.is_distributed() else get()


def space_builder(text: TextTower | None) -> Callable[..., ConceptSpace] | None:
    """Makes the concept spaces of an encoder's own text tower, once for the same words; None without a text tower."""
    if text is None:
        return None

    def build(vocabulary: str | None = None, **options: Any) -> ConceptSpace:
        concepts = load_concepts(vocabulary or DEFAULT_VOCABULARY)
        with progress_bar(f"concept space {concepts.name}", "text") as progress:
            return cached_space(concepts, text, progress=progress, **options)

    return build


def _same_everywhere(get: Callable[[], ConceptSpace]) -> ConceptSpace:
    """First one process, then the others; a failure of any is raised on all, so that none waits for ever."""
    space: ConceptSpace | None = None
    for turn in (distributed.rank() == 0, distributed.rank() > 0):
        fault = None
        if turn:
            try:
                space = get()
            except VidsslError as error:
                fault = str(error)
        faults = [text for text in distributed.gather_objects(fault) if text is not None]
        if faults:
            raise VidsslError(faults[0])
    assert space is not None
    if len(set(distributed.gather_objects(space.sha256))) == 1:
        return space
    # Other hardware, other last bits: the numbers of the first process count.
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    first = [getattr(space, name).to(device) for name in _TENSORS]
    if distributed.rank() > 0:
        first = [tensor[:0] for tensor in first]
    return ConceptSpace(space.info, *(distributed.gather_rows(tensor).cpu() for tensor in first))


def _cache_folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("vidssl") / "concepts"
