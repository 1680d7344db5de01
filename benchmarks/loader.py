"""What a sample of two global and eight local views costs, by ours, from kept frames and prepared files, and by other loaders.

    python benchmarks/loader.py --videos DATA/videos/ucf101/val --work WORK --output loader.json

Everything is CPU time (of one process, one thread), in one run, on the same files: real clips that are enlarged and repeated to ten
seconds at 340x256 and 1280x720, with a key frame every 250 or 12 frames. Times of a shared machine are noisy, ratios are
less so: rounds go through all loaders in turn, and the median of the rounds is what counts.

- ours: `ClipDataset.batch`, that is what a decoding process does: one window of four seconds, decoded once, all draws made;
  files are known from a manifest, as in training. "scanning": they are not.
  With "rendered", `render_views` too, which usually runs on the device.
- jpeg, raw: the same from kept frames (`data.cache`), that is in epochs after the first.
- prepared: the same from what `vidssl data prepare` makes of the files.
- torchcodec: its random clip sampler for each kind of view, then random crops of torchvision (bytes, antialiased).
- floor: the frames of "ours" decoded and converted by a decoder that is open already, nothing else.
- pytorchvideo: `EncodedVideo.get_clip` at a random place for each view, as `RandomClipSampler` has it, without crops.

Then a loader with two decoding processes: how much of the CPU time of all processes is decoding, and where the rest goes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from multiprocessing import Array, active_children
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from decode import least
from torchvision.transforms import v2

from vidssl.data import dataset, handing_over, videos
from vidssl.data.cache.videos import cached
from vidssl.data.dataset import ClipDataset
from vidssl.data.decode.open import AutoReader, open_video
from vidssl.data.decode.reader import VideoReader
from vidssl.data.loader import build_loader
from vidssl.data.manifest.indexing import write_index
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.prepare.run import prepare
from vidssl.data.views.crop import resize_short_side
from vidssl.data.views.render import render_views
from vidssl.data.views.spec import ViewSpec
from vidssl.files import write_json

COLOUR: dict[str, Any] = {"jitter": (0.4, 0.4, 0.2, 0.1), "jitter_p": 0.8, "gray_p": 0.2, "blur_p": 0.5}
VIEWS = [
    ViewSpec("global", 2, 16, seconds=64 / 25, **COLOUR),
    ViewSpec("local", 8, 8, seconds=32 / 25, size=96, scale=(0.05, 0.4), **COLOUR),
]
KINDS = {
    "340x256 GOP 250": (256, 340, 250),
    "340x256 GOP 12": (256, 340, 12),
    "720p GOP 250": (720, 1280, 250),
}
RATE, SECONDS, WINDOW = 25, 10, 4.0
WARM = 8  # batches of the loader with two processes that are not counted


def make_files(sources: list[Path], folder: Path, height: int, width: int, gop: int) -> VideoIndex:
    """Ten seconds of each source, enlarged; x264 as ffmpeg has it."""
    import av

    for source in sources:
        file = folder / f"{source.stem}.mp4"
        if file.is_file():
            continue
        with open_video(source) as video:
            frames = video.frames(np.arange(video.info.num_frames))
        folder.mkdir(parents=True, exist_ok=True)
        partial_file = file.with_suffix(".partial")
        with av.open(str(partial_file), "w", format="mp4") as container:
            stream = cast(Any, container.add_stream("libx264", rate=Fraction(RATE)))
            stream.height, stream.width, stream.pix_fmt, stream.thread_count = height, width, "yuv420p", 1
            stream.options = {"g": str(gop), "preset": "medium" if height < 500 else "veryfast", "crf": "23"}
            for number in range(RATE * SECONDS):
                picture = av.VideoFrame.from_ndarray(
                    frames[_there_and_back(number, len(frames))], format="rgb24"
                )
                container.mux(stream.encode(picture.reformat(width, height, interpolation="BICUBIC")))
            container.mux(stream.encode())
        partial_file.replace(file)
    return known(folder)


def known(videos: Path) -> VideoIndex:
    """The videos of a folder or list by a manifest, as training knows them: no sample scans its file."""
    manifest = videos.with_suffix(".arrow")
    write_index(VideoIndex.read(videos), manifest, workers=1, progress=False)
    return VideoIndex.read(manifest)


def _there_and_back(number: int, count: int) -> int:
    place = number % max(2 * count - 2, 1)
    return place if place < count else 2 * count - 2 - place


def ours(index: VideoIndex, rendered: bool = False, **how: Any) -> Callable[[int], Any]:
    data = ClipDataset(index, VIEWS, window_seconds=WINDOW, **how)
    memory = handing_over.Outbox()

    def load(epoch: int) -> Any:
        memory.clear([])
        batch = data.batch([(epoch, i) for i in range(len(index))], memory.empty)
        return render_views(batch, VIEWS, (0.5,) * 3, (0.5,) * 3) if rendered else batch

    return load


def floor(index: VideoIndex, epoch: int) -> float:
    """Milliseconds a sample where the frames of "ours" are decoded and converted by a decoder that is open, and nothing else."""
    data, spent = ClipDataset(index, VIEWS, window_seconds=WINDOW), 0.0
    for i in range(len(index)):
        timeline = index.timeline(i)
        assert timeline is not None
        clips = data._clips(timeline.times, (epoch, i))
        spent += least(index.path(i), timeline, [np.unique(np.concatenate([clip.indices for clip in clips]))])
    return spent / len(index)


def torchcodec(index: VideoIndex) -> Callable[[int], Any]:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.samplers import clips_at_random_timestamps

    crops = [v2.RandomResizedCrop(spec.size, spec.scale, spec.ratio, antialias=True) for spec in VIEWS]

    def sample(i: int) -> Any:
        decoder = VideoDecoder(str(index.path(i)), num_ffmpeg_threads=1)
        views = []
        for spec, crop in zip(VIEWS, crops, strict=True):
            clips = clips_at_random_timestamps(
                decoder, num_clips=spec.count, num_frames_per_clip=spec.frames,
                seconds_between_frames=cast(float, spec.seconds) / spec.frames,
            )  # fmt: skip
            views += [crop(clip) for clip in clips.data]
        return views

    return lambda epoch: [sample(i) for i in range(len(index))]


def pytorchvideo(index: VideoIndex) -> Callable[[int], Any]:
    from pytorchvideo.data.clip_sampling import RandomClipSampler
    from pytorchvideo.data.encoded_video import EncodedVideo

    def sample(i: int) -> Any:
        video = EncodedVideo.from_path(str(index.path(i)), decode_audio=False)
        views = []
        for spec in VIEWS:
            place = RandomClipSampler(
                clip_duration=Fraction(cast(float, spec.seconds)).limit_denominator(1000)
            )
            for _ in range(spec.count):
                at = place(0, video.duration, None)
                clip = video.get_clip(at.clip_start_sec, at.clip_end_sec)["video"]
                chosen = torch.linspace(0, clip.shape[1] - 1, spec.frames).long()
                views.append(clip[:, chosen])
        video.close()
        return views

    return lambda epoch: [sample(i) for i in range(len(index))]


def cpu(run: Callable[[], Any]) -> float:
    """Milliseconds of this process."""
    started = time.process_time()
    run()
    return (time.process_time() - started) * 1e3


def one_kind(name: str, sources: list[Path], work: Path, rounds: int) -> dict[str, Any]:
    """The rows of one kind of files."""
    height, width, gop = KINDS[name]
    folder = work / name.replace(" ", "_")
    index = make_files(sources, folder / "videos", height, width, gop)
    made = prepare(index, folder / "prepared", progress=False)
    openers = {form: cached(open_video, 256, form, folder / "kept") for form in ("jpeg", "raw")}
    loaders = {
        "ours (auto)": ours(index),
        "ours (PyAV)": ours(index, backend="pyav"),
        "ours, scanning": ours(VideoIndex.read(folder / "videos"), backend="pyav"),
        "ours, rendered": ours(index, backend="pyav", rendered=True),
        "jpeg": ours(index, opener=openers["jpeg"]),
        "jpeg, rendered": ours(index, opener=openers["jpeg"], rendered=True),
        "raw": ours(index, opener=openers["raw"]),
        "prepared": ours(known(made.list), backend="pyav"),
        "torchcodec": torchcodec(index),
        "pytorchvideo": pytorchvideo(index),
    }
    for load in loaders.values():
        load(0)  # imports, and the first epoch of what is kept
    for opener in openers.values():
        for i in range(len(index)):
            opener(index.path(i)).close()
    times: dict[str, list[float]] = {key: [] for key in ("floor", *loaders)}
    for epoch in range(rounds):
        times["floor"].append(floor(index, epoch))
        for key, load in loaders.items():
            if key == "pytorchvideo" and epoch >= max(rounds // 3, 1):
                continue
            times[key].append(cpu(partial(load, epoch)) / len(index))
    with open_video(index.path(0)) as video, openers["jpeg"](index.path(0)) as kept:
        some = np.arange(0, video.info.num_frames, 25)
        exact = resize_short_side(torch.from_numpy(video.frames(some)), 256).numpy().astype(float)
        psnr = float(10 * np.log10(255**2 / np.square(exact - kept.frames(some)).mean()))
    return {
        "files": name,
        "ms": {key: {"median": statistics.median(ms), "least": min(ms), "most": max(ms)} for key, ms in times.items()},
        "jpeg_psnr": psnr,
        "prepared": {key: made.record[key] for key in ("bytes", "source_bytes", "psnr")},
        "kept_bytes": {form: _size(folder / "kept", form) for form in openers},
    }  # fmt: skip


def _size(folder: Path, form: str) -> int:
    return sum(file.stat().st_size for file in folder.glob(f"*/*-{form}*.frames"))


@contextmanager
def measured(places: dict[str, tuple[Any, str]], seconds: Any) -> Iterator[None]:
    """While the block runs, functions add the CPU seconds of a call, without those of calls inside it, to their place."""
    before = {name: getattr(owner, attribute) for name, (owner, attribute) in places.items()}
    inner = [0.0]

    def wrap(number: int, function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            started, outer = time.process_time(), inner[0]
            inner[0] = 0.0
            try:
                return function(*args, **options)
            finally:
                spent = time.process_time() - started
                with seconds.get_lock():
                    seconds[number] += spent - inner[0]
                inner[0] = outer + spent

        return call

    for number, (name, (owner, attribute)) in enumerate(places.items()):
        setattr(owner, attribute, wrap(number, before[name]))
    try:
        yield
    finally:
        for name, (owner, attribute) in places.items():
            setattr(owner, attribute, before[name])


def whole_loader(index: VideoIndex, steps: int) -> dict[str, float]:
    """Shares of the CPU time of all processes of a loader with two decoding ones."""
    places: dict[str, tuple[Any, str]] = {
        "decoding and conversion": (VideoReader, "frames"),
        "decoding into the batch": (AutoReader, "frames_into"),
        "opening, large frames": (dataset.ClipDataset, "_decode"),  # which are decoded one by one
        "shrinking": (dataset, "resize_short_side"),
        "padding the batch": (dataset, "collate_clips"),
        "copy into the batch": (videos, "collate_clips"),
        "copy between processes": (handing_over.Outbox, "hand_over"),
        "draws": (dataset, "draw_view"),
    }
    data = ClipDataset(index, VIEWS, window_seconds=WINDOW)
    seconds = Array("d", len(places))
    batch = len(index)
    with measured(places, seconds):
        loader = iter(
            build_loader(data, GlobalBatchSampler(len(index), batch, total_steps=WARM + steps), num_workers=2)
        )
        for _ in range(WARM):  # they start the processes, import decoders there, and find memory
            next(loader)
        before, spent = list(seconds), _times()
        for _ in range(steps):
            next(loader)
        total = _times() - spent
        shares = {name: (now - then) / total for name, now, then in zip(places, seconds, before, strict=True)}
        loader.close()
    return {**shares, "rest": 1 - sum(shares.values()), "CPU ms a sample": total / steps / batch * 1e3}


def _times() -> float:
    """CPU seconds of this process and of those that it started."""
    tick = os.sysconf("SC_CLK_TCK")
    children = [Path(f"/proc/{child.pid}/stat").read_text() for child in active_children()]
    return time.process_time() + sum(
        sum(map(int, text.rpartition(")")[2].split()[11:13])) / tick for text in children
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, required=True, help="folder of real videos")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vidssl-loader")
    parser.add_argument("--files", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12, help="of the loader with two processes")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--output", type=Path, help="write the results as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    every = sorted(args.videos.rglob("*.mp4"))
    sources = every[:: max(len(every) // args.files, 1)][: args.files]

    rows = []
    for kind in args.kinds:
        row = one_kind(kind, sources, args.work, args.rounds)
        rows.append(row)
        best = min(row["ms"][key]["median"] for key in ("ours (auto)", "ours (PyAV)"))
        print(
            f"\n{kind}: CPU ms a sample (least to most of {args.rounds} rounds), and times the best of ours"
        )
        for key, ms in row["ms"].items():
            print(
                f"  {key:16} {ms['median']:8.1f} ({ms['least']:.1f} to {ms['most']:.1f})  {ms['median'] / best:6.3f}"
            )
        print(f"  JPEG {row['jpeg_psnr']:.1f} dB; bytes kept {row['kept_bytes']}; prepared {row['prepared']}")
    shares = {}
    for kind in args.kinds:
        index = known(args.work / kind.replace(" ", "_") / "videos")
        shares[kind] = whole_loader(index, args.steps)
        print(f"\n{kind}: a loader with two processes")
        for name, value in shares[kind].items():
            print(f"  {name:24} {value:7.1%}" if name != "CPU ms a sample" else f"  {name:24} {value:7.1f}")
    if args.output:
        write_json(
            args.output, {"rows": rows, "shares": shares, "files": args.files, "cores": os.cpu_count()}
        )


if __name__ == "__main__":
    main()
