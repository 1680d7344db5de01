"""What probes cost: grids of heads against single ones, and large sets.

    python benchmarks/probes.py linear
    python benchmarks/probes.py attentive
    python benchmarks/probes.py fly --data ../shared/data/videos/ucf101
    python benchmarks/probes.py features --data ../shared/data/videos/ucf101
    python benchmarks/probes.py large --rows 240000 --head sgd --epochs 1
    python benchmarks/probes.py large --rows 240000 --head lbfgs --minutes 25
    python benchmarks/probes.py choose --rows 240000

CPU seconds of this process, median and range over repeats; features are synthetic.
"""

from __future__ import annotations

import argparse
import math
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidssl.data.manifest.manifest import VideoIndex
from vidssl.evaluation.features import extract_features
from vidssl.evaluation.features.room import Room
from vidssl.evaluation.features.shelf import Shelf
from vidssl.evaluation.features.sources import Kind, encoder_source
from vidssl.evaluation.features.tokens import FreshTokens, Tokens
from vidssl.evaluation.probes.attentive import DECAYS, RATES
from vidssl.evaluation.probes.grid import fit_attentive
from vidssl.evaluation.probes.logistic import choose_l2, fit_logistic
from vidssl.evaluation.probes.selection import Setting
from vidssl.evaluation.probes.sgd import GRID, fit_heads
from vidssl.evaluation.setup import EvalOptions, load_subject


def seconds(work: Callable[[], Any], repeats: int) -> list[float]:
    """CPU seconds of each repeat, ascending; the first run, which warms up, is not counted."""
    work()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return sorted(found)


def show(name: str, one: list[float], many: list[float], heads: int) -> None:
    """A line of the table."""
    ratio = many[len(many) // 2] / one[len(one) // 2]
    print(
        f"{name}: one head {one[0]:.3f} to {one[-1]:.3f} s, {heads} heads {many[0]:.3f} to {many[-1]:.3f} s: "
        f"{ratio:.2f} x one, {ratio / heads:.2f} x {heads} runs",
        flush=True,
    )


def linear(repeats: int) -> None:
    """A grid of linear heads against one."""
    for n, d, k, batch in ((2000, 512, 10, 64), (4000, 512, 101, 256)):
        x, y = torch.randn(n, d), torch.randint(k, (n,))
        how = {"epochs": 2, "batch_size": batch}
        one = seconds(lambda x=x, y=y, k=k, how=how: fit_heads(x, y, k, [Setting(0.1, 0.0)], **how), repeats)
        many = seconds(lambda x=x, y=y, k=k, how=how: fit_heads(x, y, k, GRID, **how), repeats)
        show(f"linear, {n} x {d}, {k} classes, batches of {batch}", one, many, len(GRID))


def attentive(repeats: int) -> None:
    """A grid of attentive heads against one, on tokens read from a disk."""
    grid = [Setting(*pair) for pair in product(RATES, DECAYS)]
    videos = 96
    for d, k, batch, tokens in ((64, 10, 16, 8), (256, 10, 16, 8), (512, 101, 48, 8), (256, 10, 16, 392)):
        with tempfile.TemporaryDirectory() as folder:
            names = [str(number) for number in range(videos)]
            shelf = Shelf(Room(folder, 2.0), {})
            shelf.keep(names, torch.randn(videos, 3, tokens, d), torch.ones(videos, 3, dtype=torch.bool))
            shelf.flush()
            kept, y = Tokens(shelf.open(names)), torch.randint(k, (videos,))

            def run(
                settings: list[Setting], kept: Tokens = kept, y: Any = y, k: int = k, batch: int = batch
            ) -> None:
                fit_attentive(kept, torch.arange(videos), y, k, settings, epochs=1, batch_size=batch)

            one, many = (
                seconds(lambda run=run: run(grid[:1]), repeats),
                seconds(lambda run=run: run(grid), repeats),
            )
        show(f"attentive, {3 * tokens} tokens of {d}, {k} classes, batches of {batch}", one, many, len(grid))


def fly(data: str, videos: int, repeats: int) -> None:
    """A grid of attentive heads against one, on patches that are decoded and encoded in every epoch."""
    index = VideoIndex.read(data)
    index = index.subset(range(min(videos, len(index))))
    grid = [Setting(*pair) for pair in product(RATES, DECAYS)]
    kind, y = Kind("patches"), torch.arange(len(index)) % 4
    for name in ("conv3d/small", "timm/vit_tiny_patch16_224"):
        options = EvalOptions(
            clips=1, frames=4, seconds=2.0, workers=0, batch_size=4, device="cpu", cache=False
        )
        subject = load_subject(name, options)
        source = encoder_source(subject.encoder, "trained", (kind,))
        tokens = FreshTokens(subject, index, range(len(index)), source, kind)

        def run(settings: list[Setting], tokens: Tokens = tokens) -> None:
            fit_attentive(tokens, torch.arange(len(y)), y, 4, settings, epochs=1, batch_size=4)

        one, many = (seconds(lambda given=given, run=run: run(given), repeats) for given in (grid[:1], grid))
        show(f"on the fly, {name}, {len(index)} videos", one, many, len(grid))


def features(data: str, videos: int, repeats: int) -> None:
    """The first look at some videos, which decodes and encodes them, and later ones."""
    index = VideoIndex.read(data)
    index = index.subset(range(min(videos, len(index))))
    for name in ("conv3d/small", "timm/vit_tiny_patch16_224"):
        with tempfile.TemporaryDirectory() as folder:
            options = EvalOptions(
                clips=2, frames=4, workers=0, batch_size=4, device="cpu", cache=Path(folder)
            )
            subject, found = load_subject(name, options), []
            for _ in range(1 + repeats):
                start = time.process_time()
                extract_features(subject, index, motion=True, description="features")
                found.append(time.process_time() - start)
            first, later = found[0], sorted(found[1:])
            print(
                f"{name}, {len(index)} videos: first {first:.2f} s, later {later[0]:.3f} to {later[-1]:.3f} s, at most "
                f"{100 * later[-1] / first:.1f} %",
                flush=True,
            )


class TimeUp(Exception):
    """The CPU time that was given is used."""


class Watch:
    """Prints how far a fit is, first at tenfold smaller gradients, and stops it after some minutes of CPU time."""

    def __init__(self, minutes: float) -> None:
        self.start, self.minutes, self.looks, self.next, self.found = (
            time.process_time(),
            minutes,
            0,
            math.inf,
            [],
        )

    def __call__(self, value: float, gradient: float) -> None:
        self.looks += 1
        used = time.process_time() - self.start
        self.found.append((used, value, gradient))
        if gradient <= self.next or self.looks % 25 == 0:
            print(
                f"{self.looks} looks at all rows, {used:.0f} s: objective {value:.8f}, largest gradient {gradient:.1e}",
                flush=True,
            )
        self.next = min(self.next, 10.0 ** math.floor(math.log10(gradient)))
        if used > 60 * self.minutes:
            raise TimeUp

    def summary(self) -> str:
        """When scikit-learn's default tolerance, |g| <= 1e-4, was met, and how far above the last objective that is."""
        used, last, gradient = self.found[-1]
        line = f"{self.looks} looks, {used:.0f} s, objective {last:.8f}, largest gradient {gradient:.1e}"
        for place, (seconds_, value, size) in enumerate(self.found):
            if size <= 1e-4:
                return f"{line}; 1e-4 after {place + 1} looks and {seconds_:.0f} s, there {value - last:.1e} above it"
        return line


@contextmanager
def mapped(rows: int, recorded: float = 0.0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(rows, 768) float32 in a file that is mapped into memory, labels of 400 classes, and recordings of ten rows, which are of one class and
    share `recorded` times a standard normal offset."""
    with tempfile.TemporaryDirectory() as folder:
        file = np.memmap(Path(folder) / "rows", np.float32, "w+", shape=(rows, 768))
        generator = np.random.default_rng(0)
        centres, groups = generator.normal(size=(400, 768)), np.arange(rows) // 10
        y = generator.integers(400, size=rows)
        if recorded:
            y = y[groups]
        for start in range(0, rows, 10_000):
            part = y[start : start + 10_000]
            file[start : start + 10_000] = centres[part] + 6 * generator.normal(size=(len(part), 768))
            if recorded:
                own = recorded * generator.normal(size=(math.ceil(len(part) / 10), 768))
                file[start : start + 10_000] += own.repeat(10, axis=0)[: len(part)]
        file.flush()
        yield torch.from_numpy(file), torch.from_numpy(y), torch.from_numpy(groups)


def choose(rows: int) -> None:
    """The choice of the penalty on held-out recordings, by a path from the strongest on, each fit started from the last."""
    with mapped(rows, recorded=3.0) as (x, y, groups):
        start = time.process_time()

        def watch(l2: float, loss: float) -> None:
            used, memory = (
                time.process_time() - start,
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
            )
            print(
                f"penalty {l2:.1e}: held-out cross-entropy {loss:.5f}, {used:.0f} s, {memory:.2f} GB",
                flush=True,
            )

        best = choose_l2(x, y, 400, groups=groups, watch=watch)
        used, memory = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{rows} x 768, 400 classes: {best:.1e} chosen in {used:.0f} s of CPU, at most {memory:.2f} GB, the mapped file included"
        )


def large(rows: int, head: str, epochs: int, iterations: int, minutes: float) -> None:
    """One fit to rows of 768 numbers and 400 classes, float32, in a file that is mapped into memory."""
    with mapped(rows) as (x, labels, _):
        start = time.process_time()
        if head == "sgd":
            heads = fit_heads(x, labels, 400, [Setting(0.01, 0.0)], epochs=epochs)
            right = (heads(x[:10_000])[0].argmax(1) == labels[:10_000]).double().mean().item()
        else:
            watch = Watch(minutes)
            try:
                model = fit_logistic(x, labels, 400, 1e-3, max_iterations=iterations, watch=watch)
                right = (model(x[:10_000]).argmax(1) == labels[:10_000]).double().mean().item()
            except TimeUp:
                right = math.nan
            print(watch.summary(), flush=True)
        used = time.process_time() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        what = f"{epochs} epochs" if head == "sgd" else f"{iterations} iterations at most"
        print(
            f"{head}, {rows} x 768, 400 classes, {what}: {used:.0f} s of CPU, at most {memory:.2f} GB, the mapped file included; "
            f"{100 * right:.1f} % of the first 10,000 rows right"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["linear", "attentive", "fly", "features", "large", "choose"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", default="../shared/data/videos/ucf101")
    parser.add_argument("--videos", type=int, default=10)
    parser.add_argument("--rows", type=int, default=240_000)
    parser.add_argument("--head", choices=["lbfgs", "sgd"], default="lbfgs")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=25.0, help="of CPU time, of lbfgs at most")
    given = parser.parse_args()
    if given.what == "large":
        large(given.rows, given.head, given.epochs, given.iterations, given.minutes)
    elif given.what == "choose":
        choose(given.rows)
    elif given.what in ("features", "fly"):
        (fly if given.what == "fly" else features)(given.data, given.videos, given.repeats)
    else:
        {"linear": linear, "attentive": attentive}[given.what](given.repeats)
