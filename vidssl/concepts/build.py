"""From a concept file and a text encoder to a concept space, in one pass over all texts; and the cache of spaces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vidssl import distributed
from vidssl.concepts.formats.text import split_sentences
from vidssl.concepts.geometry import WHITENINGS, Whitener, merge_groups, near_duplicates
from vidssl.concepts.prompts import ConceptFile, Problem
from vidssl.concepts.rules import check_concepts
from vidssl.concepts.space import (
    TENSORS,
    ConceptSpace,
    SpaceConcept,
    SpaceInfo,
    Whitening,
    load_space,
    save_space,
)
from vidssl.concepts.templates import render
from vidssl.concepts.vocabulary import DEFAULT_VOCABULARY, load_concepts
from vidssl.errors import NAMED, VidsslError, check_choice
from vidssl.models.encoder import TextTower
from vidssl.models.factory import create_model
from vidssl.models.load import load
from vidssl.models.sources import CONFIG_FILE, LOCAL
from vidssl.progress import progress_bar

# Rules whose breach leaves a row without meaning; the others a space survives.
_BREAKING = {
    "concepts-empty", "names-only", "template-missing", "template-placeholder", "id-repeated", "name-empty",
    "name-repeated", "description-missing", "description-empty",
}  # fmt: skip
NEAR_DUPLICATE = 0.97
MAX_PAIRS = 1000  # near-duplicates that are kept for the report

Progress = Callable[[int, int], None]


def load_text_tower(name: str | Path, pretrained: str | None = None) -> TextTower:
    """A text tower from whatever names an encoder that has one.

    Args:
        name: run, checkpoint or exported encoder; folder of an open_clip model; or a name for `vidssl.create_model`.
        pretrained: weights for an architecture's name.

    Raises:
        VidsslError: when it cannot be loaded or has no text tower.
    """
    folder = Path(str(name).removeprefix(LOCAL)).expanduser()
    if folder.is_dir() and not (folder / CONFIG_FILE).is_file():
        encoder = load(folder)
    else:
        model = f"{LOCAL}{folder}" if folder.is_dir() else str(name)
        encoder = create_model(model, pretrained, temporal="none")
    if encoder.text is None:
        raise VidsslError(f"{name}: has no text tower")
    return encoder.text


def space_builder(text: TextTower | None) -> Callable[..., ConceptSpace] | None:
    """Makes the concept spaces of an encoder's own text tower, once for the same words; None without a text tower."""
    if text is None:
        return None

    def build(
        vocabulary: str | None = None, templates: str | Sequence[str] | None = None, **options: Any
    ) -> ConceptSpace:
        concepts = load_concepts(vocabulary or DEFAULT_VOCABULARY, templates)
        with progress_bar(f"concept space {concepts.name}", "text") as progress:
            return cached_space(concepts, text, progress=progress, **options)

    return build


def cached_space(
    concepts: ConceptFile,
    text_encoder: TextTower,
    *,
    whiten: Whitening = "none",
    merge_threshold: float | None = None,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> ConceptSpace:
    """`build_space`, done once for the same words, encoder and options.

    With several processes the first one builds, the others read what it wrote, and all end with the very same numbers,
    also where they do not share a disk.

    Args:
        folder: where spaces are kept; by default ``concepts`` in the user's cache folder.

    Raises:
        VidsslError: as `build_space`.
    """
    from platformdirs import user_cache_path

    key = space_key(concepts, text_encoder, whiten, merge_threshold)
    file = (folder or user_cache_path("vidssl") / "concepts") / f"{key[:32]}.safetensors"

    def get() -> ConceptSpace:
        if file.is_file():
            with suppress(VidsslError):  # damaged: built anew
                space = load_space(file)
                if space.info.key == key:
                    return space
        options: Any = {"whiten": whiten, "merge_threshold": merge_threshold, "progress": progress}
        space = build_space(concepts, text_encoder, **options)
        with suppress(OSError):  # a cache that cannot be written costs time, not the run
            save_space(space, file)
        return space

    return _same_everywhere(get) if distributed.is_distributed() else get()


def build_space(
    file: ConceptFile,
    text_encoder: TextTower,
    *,
    whiten: Whitening = "none",
    merge_threshold: float | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> ConceptSpace:
    """Encode all names and descriptions.

    Args:
        file: names, descriptions and templates.
        text_encoder: a frozen tower; its device is used.
        whiten: ``none``, ``center`` or ``zca``, see :class:`Whitener`; each space on its own.
        merge_threshold: concepts closer than this cosine in both spaces become one row; None merges nothing.
        batch_size: texts in one pass of the encoder.
        progress: called with the number of texts encoded and their total after each pass.

    Returns:
        The space on the CPU. Texts longer than the encoder reads were cut at the end of a sentence and stand in
        ``info.problems``; pairs of rows closer than 0.97 in ``info.near_duplicates``.

    Raises:
        VidsslError: for a file that leaves a row without meaning (no descriptions, names twice, a template without its
            placeholder), bad options, or features that are not finite.
    """
    _check(file, whiten, merge_threshold)
    plan = _Plan(file, text_encoder)
    features = _encode(list(plan.rows), text_encoder, batch_size, progress)
    category = F.normalize(features[plan.category].mean(dim=1), dim=-1)
    sentences = [features[rows] for rows in plan.descriptions]
    description = torch.stack([F.normalize(rows.mean(dim=0), dim=-1) for rows in sentences])
    ids = file.ids
    pairs = near_duplicates(category, ids, "category", NEAR_DUPLICATE)
    pairs += near_duplicates(description, ids, "description", NEAR_DUPLICATE)
    pairs.sort(key=lambda pair: -pair.cosine)
    groups = [[index] for index in range(len(ids))]
    if merge_threshold is not None:
        groups = merge_groups(category, description, merge_threshold)
        category = torch.stack([F.normalize(category[group].mean(dim=0), dim=-1) for group in groups])
        sentences = [torch.cat([sentences[index] for index in group]) for group in groups]
        description = torch.stack([F.normalize(description[group].mean(dim=0), dim=-1) for group in groups])
    described = Whitener(description, whiten)
    info = SpaceInfo(
        name=file.name,
        concepts=tuple(_merged_concept(file, group) for group in groups),
        category_templates=file.templates.category,
        description_templates=file.templates.description,
        encoder=text_encoder.fingerprint,
        context_length=text_encoder.context_length,
        whiten=whiten,
        merge_threshold=merge_threshold,
        merged=tuple((ids[index], ids[group[0]]) for group in groups for index in group[1:]),
        near_duplicates=tuple(pairs[:MAX_PAIRS]),
        near_duplicate_count=len(pairs),
        problems=tuple(plan.problems),
        key=space_key(file, text_encoder, whiten, merge_threshold),
    )
    return ConceptSpace(
        info,
        Whitener(category, whiten)(category).float(),
        described(description).float(),
        described(pad_sequence(sentences, batch_first=True)).float(),
        torch.tensor([len(rows) for rows in sentences]),
    )


def space_key(
    file: ConceptFile,
    text_encoder: TextTower,
    whiten: Whitening = "none",
    merge_threshold: float | None = None,
) -> str:
    """sha256 (hex) over all that `build_space` makes a space of: known without encoding anything."""
    parts = {
        "version": 1,  # of the way from words to rows
        "concepts": [[c.id, c.name, c.aliases, c.descriptions] for c in file.concepts],
        "templates": [file.templates.category, file.templates.description],
        "encoder": text_encoder.fingerprint,
        "context_length": text_encoder.context_length,
        "whiten": whiten,
        "merge_threshold": merge_threshold,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _Plan:
    """Which texts to encode, each once, and which of them make which row."""

    def __init__(self, file: ConceptFile, text_encoder: TextTower) -> None:
        self.problems: list[Problem] = []
        self.rows: dict[str, int] = {}  # text -> row of its feature
        self._encoder = text_encoder
        category, self.descriptions = [], []
        for concept in file.concepts:
            names = [render(template, concept.name) for template in file.templates.category]
            category.append([self._row(concept.id, text) for text in names])
            sentences = [
                render(template, concept.name, sentence)
                for sentence in concept.descriptions
                for template in file.templates.description
            ]
            self.descriptions.append([self._row(concept.id, text) for text in sentences])
        self.category = torch.tensor(category)

    def _row(self, concept: str, text: str) -> int:
        if text not in self.rows and self._encoder.num_tokens(text) > self._encoder.context_length:
            text = self._cut(concept, text)
        return self.rows.setdefault(text, len(self.rows))

    def _cut(self, concept: str, text: str) -> str:
        """As many whole sentences as fit; the encoder itself cuts a first sentence that is too long."""
        longest = self._encoder.context_length
        kept = split_sentences(text)
        while len(kept) > 1 and self._encoder.num_tokens(" ".join(kept)) > longest:
            kept.pop()
        shorter = " ".join(kept)
        message = f"{self._encoder.num_tokens(text)} tokens, the encoder reads {longest}: cut after {shorter[-60:]!r}"
        self.problems.append(Problem("warning", concept, "tokens-cut", message))
        return shorter


def _encode(
    texts: Sequence[str], text_encoder: TextTower, batch_size: int, progress: Progress | None
) -> Tensor:
    """(N, D) float64 unit features on the CPU."""
    rows = []
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        rows.append(text_encoder.encode(batch, batch_size=batch_size).detach().cpu().double())
        if progress is not None:
            progress(start + len(batch), len(texts))
    features = torch.cat(rows)
    norms = features.norm(dim=1)
    bad = torch.nonzero(~torch.isfinite(norms) | (norms == 0)).flatten().tolist()
    if bad:
        raise VidsslError(
            f"text encoder: the feature of {texts[bad[0]]!r} is not finite or zero ({len(bad)} such texts)"
        )
    unit: Tensor = features / norms[:, None]
    return unit


def _check(file: ConceptFile, whiten: str, merge_threshold: float | None) -> None:
    check_choice("whiten", whiten, WHITENINGS, NAMED)
    if merge_threshold is not None and not 0 < merge_threshold <= 1:
        raise VidsslError(
            f"merge_threshold {merge_threshold}: must be a cosine in (0, 1], such as {NEAR_DUPLICATE}"
        )
    breaking = [problem for problem in check_concepts(file) if problem.rule in _BREAKING]
    if breaking:
        first = breaking[0]
        more = f" (and {len(breaking) - 1} more)" if len(breaking) > 1 else ""
        where = f"{file.name}: {first.concept}: " if first.concept else f"{file.name}: "
        raise VidsslError(f"{where}{first.message}{more}")


def _merged_concept(file: ConceptFile, group: Sequence[int]) -> SpaceConcept:
    members = [file.concepts[index] for index in group]
    names = [alias for member in members for alias in (member.name, *member.aliases)]
    return SpaceConcept(
        id=members[0].id,
        name=members[0].name,
        aliases=tuple(dict.fromkeys(names[1:])),
        descriptions=tuple(text for member in members for text in member.descriptions),
    )


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
    first = [getattr(space, name).to(device) for name in TENSORS]
    if distributed.rank() > 0:
        first = [tensor[:0] for tensor in first]
    return ConceptSpace(space.info, *(distributed.gather_rows(tensor).cpu() for tensor in first))
