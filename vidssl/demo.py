"""`vidssl demo`: the whole of the package on a bare machine, in a few minutes, without network or weights.

1. render real mp4 files of sprites whose classes are motions, so that no single frame tells the class;
2. train a small CLIP on captioned single frames (it knows shapes, colours and places, but no motion);
3. pretrain a video encoder that starts as that CLIP, on the videos without their labels;
4. zero-shot classification and a linear probe, before and after, beside chance.

The numbers are whatever comes out. By construction no single frame tells the classes apart, so the untrained encoder (a
mean over frames) is at chance, and a minute and a half of training is too short to leave it by much: the demo shows that
every part works, not what the method can reach.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions, linear_probe, zero_shot
from vidssl.evaluation.report import show_result
from vidssl.files import write_json, writing
from vidssl.progress import Progress
from vidssl.synthetic.captions import captioned_frames
from vidssl.synthetic.clip import train_toy_clip
from vidssl.synthetic.motions import write_sprite_dataset
from vidssl.training import pretrain

TRAIN_CLIPS, VAL_CLIPS = 40, 20  # of each of the eight classes
CLIP_FRAMES, CLIP_STEPS, CLIP_BATCH = 4096, 300, 128
MARKER = "made-by-vidssl-demo"
RESULT = "result.json"
PARTS = ("videos", "clip", "run", RESULT)


def run_demo(folder: Path, seed: int = 0) -> dict[str, Any]:
    """Run all four parts into `folder`; an earlier demo there is replaced once this one is complete.

    Raises:
        VidsslError: when `folder` holds something that is not a demo.
        Stopped: when it was told to stop while it pretrained.
    """
    with _claimed(folder):
        return _run(folder, seed)


def _run(folder: Path, seed: int) -> dict[str, Any]:
    started = time.perf_counter()
    videos, clip, run = folder / "videos", folder / "clip", folder / "run"
    with _part(f"rendering {8 * (TRAIN_CLIPS + VAL_CLIPS)} videos"):
        write_sprite_dataset(
            videos, clips_per_class_train=TRAIN_CLIPS, clips_per_class_val=VAL_CLIPS, seed=seed, texture=0.0
        )
    with _part("training a small CLIP on captioned frames"):
        _train_clip(clip, seed)
    with _part("pretraining the video encoder"):
        overrides = [
            f"output={run}",
            f"seed={seed}",
            f"data.train={videos / 'train'}",
            f"model.name=local-dir:{clip}",
            f"model.pretrained=local-dir:{clip}",
        ]
        pretrain(load_config("demo", overrides))
    options = EvalOptions(clips=1, batch_size=32, workers=1)
    with _part("evaluating"):
        results = {
            "zero-shot": zero_shot(run, videos / "val", options=options),
            "linear-probe": linear_probe(run, videos / "train", videos / "val", options=options),
        }
    for name, result in results.items():
        show_result(f"{name}: 8 motions, {8 * VAL_CLIPS} videos", result)
    summary = {"seconds": time.perf_counter() - started, **results}
    write_json(folder / RESULT, summary)
    typer.echo(f"{summary['seconds']:.0f} s in all; videos, weights and results are in {folder}")
    return summary


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """A block that fills an empty folder; a complete earlier demo there comes back if it fails."""
    if folder.exists() and not folder.is_dir():
        raise VidsslError(f"{folder}: is a file; a folder is needed")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise VidsslError(f"{folder}: is not empty and no earlier demo; choose another with --output")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
        earlier, gone = folder / ".earlier", folder / ".gone"
        _move_parts(earlier, folder)  # of one that was killed
        _remove(earlier)
        if (folder / RESULT).is_file():
            _move_parts(folder, earlier)
        else:
            for part in PARTS:
                _remove(folder / part)
    try:
        yield
    except BaseException:
        if earlier.is_dir():
            _move_parts(earlier, folder)
            _remove(earlier)
            typer.echo(f"{folder}: nothing is left of this demo, the earlier one is back")
        raise
    _remove(gone)
    if earlier.is_dir():
        earlier.rename(gone)  # at once, so that no half of it ever comes back
    _remove(gone)


def _move_parts(source: Path, target: Path) -> None:
    """What `source` holds of a demo, in place of what `target` does; nothing if there is no such folder."""
    if not source.is_dir():
        return
    target.mkdir(exist_ok=True)
    for part in PARTS:
        if (source / part).exists():
            _remove(target / part)
            (source / part).rename(target / part)


def _remove(part: Path) -> None:
    part.unlink() if part.is_file() else shutil.rmtree(part, ignore_errors=True)


def _train_clip(folder: Path, seed: int) -> None:
    images, captions = captioned_frames(CLIP_FRAMES, size=64, seed=seed, keep=0.5)
    with Progress("clip", CLIP_STEPS, "step") as bar:

        def progress(step: int, loss: float) -> None:
            bar.note = f"loss {loss:.3f}"
            bar.update(step - bar.done)

        train_toy_clip(
            images, captions, folder, steps=CLIP_STEPS, batch_size=CLIP_BATCH, seed=seed, progress=progress
        )


@contextmanager
def _part(name: str) -> Iterator[None]:
    started = time.perf_counter()
    typer.echo(f"{name} …")
    yield
    typer.echo(f"{name}: {time.perf_counter() - started:.0f} s")
