"""The clips whose factors are known: rendered in memory, or read from a folder of factor videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from einops import rearrange
from torch import Tensor

from vidssl import distributed
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.data.views.colour import normalize_
from vidssl.data.views.crop import squash
from vidssl.evaluation.report import data_record, list_hash
from vidssl.evaluation.setup import Subject, shown_batches
from vidssl.progress import Progress
from vidssl.synthetic.factors.scenes import factor_clips, sample_table
from vidssl.synthetic.factors.table import FactorTable, read_factors

RENDERED_SIDE = 64  # pixels


class Shown(NamedTuple):
    """Some of the clips, as the encoder wants them.

    Attributes:
        numbers: rows of the table.
        clips: (B, 3, T, S, S), normalised, on the encoder's device.
        failures: those of them that could not be read; their clips are black.
    """

    numbers: list[int]
    clips: Tensor
    failures: Sequence[FailedVideo]


class Clips(Protocol):
    """N clips and their factors.

    Attributes:
        table: the factors.
        name: of the clips; results are named after its last parts.
    """

    table: FactorTable
    name: Path

    def shown(self, subject: Subject) -> Iterator[Shown]:
        """This process's share of the clips, every n-th of n processes, with a bar."""

    def record(self, failures: Sequence[FailedVideo]) -> dict[str, Any]:
        """JSON data: where they come from, a hash of their factors, and which could not be used."""


class RenderedClips:
    """Clips of a scene, rendered when they are wanted: no files, no losses by compression.

    Args:
        scene: one of `vidssl.synthetic.factors.scenes`.
        clips, frames: how many clips, and frames of each.
        seed: of the factors and of what no factor names.

    Raises:
        VidsslError: for an unknown scene, or numbers below 1.
    """

    def __init__(self, scene: str, clips: int, frames: int, seed: int) -> None:
        self.scene, self.frames, self.seed = scene, frames, seed
        self.table = sample_table(scene, clips, seed)
        self.name = Path("/rendered") / scene

    def shown(self, subject: Subject) -> Iterator[Shown]:
        """See `Clips`."""
        encoder, size = subject.encoder, subject.options.spec(subject.encoder).size
        rank, processes = distributed.rank(), distributed.world_size()
        share = range(rank, len(self.table.values), processes)
        step = subject.options.batch_size
        with Progress("rendering and encoding", len(share), "clip", delay=1) as bar:
            for start in range(0, len(share), step):
                numbers = list(share[start : start + step])
                frames = torch.from_numpy(
                    factor_clips(
                        self.scene, self.table.values[numbers], self.frames, RENDERED_SIDE, self.seed, numbers
                    )
                )
                if size != RENDERED_SIDE:
                    flat = squash(rearrange(frames, "b t h w c -> (b t) h w c"), size, "bicubic")
                    frames = rearrange(flat, "(b t) h w c -> b t h w c", t=self.frames)
                clips = rearrange(frames, "b t h w c -> b c t h w").to(subject.device).float().div_(255)
                yield Shown(numbers, normalize_(clips, encoder.mean, encoder.std), ())
                bar.update(len(numbers))

    def record(self, failures: Sequence[FailedVideo]) -> dict[str, Any]:
        """See `Clips`."""
        return {
            "scene": self.scene,
            "seed": self.seed,
            "rendered_side": RENDERED_SIDE,
            "videos": len(self.table.values),
            "factors_digest": _digest(self.table),
            "failed": [failure.record for failure in failures],
            "remarks": [],
        }


class FactorVideos:
    """The videos of a folder with a table of factors; a video that cannot be read is marked, never replaced.

    Args:
        folder: as `vidssl data render factors` writes it.

    Raises:
        VidsslError: for a folder without a table, or one that cannot be understood.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.table = read_factors(folder)
        self.name = self.folder
        root = self.folder.expanduser().absolute()
        files = [path.expanduser().absolute() for path in self.table.paths]
        names = [(p.relative_to(root) if p.is_relative_to(root) else p).as_posix() for p in files]
        self.index = VideoIndex.of(root, names, [None] * len(names))

    def shown(self, subject: Subject) -> Iterator[Shown]:
        """See `Clips`."""
        options, encoder = subject.options, subject.encoder
        dataset = EvalClipDataset(self.index, options.spec(encoder), backend=options.backend)
        batches = shown_batches(dataset, encoder, options, "decoding and encoding", subject.device)
        for batch, (clips,) in batches:
            yield Shown(batch.video_id.tolist(), clips, batch.failures)

    def record(self, failures: Sequence[FailedVideo]) -> dict[str, Any]:
        """See `Clips`."""
        return {
            **data_record(self.folder, self.index, failures),
            "factors_digest": _digest(self.table),
        }


def _digest(table: FactorTable) -> str:
    return list_hash([table.names, sorted(table.motion), table.values.tolist()])
