"""CPU time of a clip of 16 frames, every fourth, by each decoder alone and by ours with and without a known time line.

    python benchmarks/decode.py [--videos ../shared/data/videos] [--rounds 5] [--clips 12] [--work FOLDER] [--output FILE]

Real videos are written anew by PyAV (x264, medium, crf 23): 10 s at 340x256 with a key frame every 250 and every 12 frames, 10 s at
1280x720 (250), and the first two 60 times over, which are files of 10 minutes of the same encoder, size and key frames. Clips
begin at random places, the same for all. All rows take turns, and of the rounds the quickest counts; the spread is that of the
rounds. A file is opened anew for each clip, as in training. Every row must deliver the frames of the first one.

floor: the needed packets sent to a decoder that is already open, and 16 conversions; nothing is opened, sought or scanned.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter

from vidssl.data.decode.open import loadable_decoders, open_video
from vidssl.data.decode.timeline import Timeline, read_timeline
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.views.crop import resize_short_side

FRAMES, STRIDE, RATE, SECONDS, MINUTES = 16, 4, 25, 10, 10
KINDS = {
    "340x256, GOP 250": (340, 256, 250),
    "340x256, GOP 12": (340, 256, 12),
    "1280x720, GOP 250": (1280, 720, 250),
}
LONG = [kind for kind in KINDS if kind.startswith("340")]
PIXELS = 3.0  # mean difference of two decoders' colours at most, in levels
Decode = Callable[[Any], Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/videos"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=12, help="of each file in each round")
    parser.add_argument(
        "--work", type=Path, help="keeps the files that are written; a temporary folder by default"
    )
    parser.add_argument("--shrinking", action="store_true", help="only the two ways of making frames smaller")
    parser.add_argument("--output", type=Path, help="the figures as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = prepared(arguments.videos, arguments.work or Path(folder))
        shrunk = shrinking(files["1280x720, GOP 250"], arguments.rounds)
        if arguments.shrinking:
            print(shrunk)
            return
        table = {name: measured(file, arguments.clips, arguments.rounds) for name, file in files.items()}
    for name, rows in table.items():
        raw = min(row["ms"] for key, row in rows.items() if key.startswith("raw"))
        print(
            f"{name}: CPU ms a clip (of the rounds the least, the most); against the fastest raw decoder, {raw:.1f} ms"
        )
        for key, row in rows.items():
            print(f"  {key:28} {row['ms']:8.2f} {row['most']:8.2f}   {row['ms'] / raw:5.2f}")
    for kind in LONG:
        key = "ours, time line known"
        ratio = table[f"{kind}, {MINUTES} min"][key]["ms"] / table[kind][key]["ms"]
        print(f"{kind}: a file of {MINUTES} minutes takes {ratio:.2f} of one of {SECONDS} s ({key})")
    print(shrunk)
    if arguments.output:
        arguments.output.write_text(json.dumps(table, indent=1) + "\n")


def prepared(videos: Path, work: Path) -> dict[str, Path]:
    """The files of each kind, written where they are not there."""
    work.mkdir(parents=True, exist_ok=True)
    files = {}
    for number, (kind, (width, height, gop)) in enumerate(KINDS.items()):
        files[kind] = work / f"{number}.mp4"
        if not files[kind].exists():
            write(files[kind], real_frames(videos, width, height), gop)
        if kind in LONG:
            files[f"{kind}, {MINUTES} min"] = long = work / f"{number}_long.mp4"
            if not long.exists():
                repeat(files[kind], long, MINUTES * 60 // SECONDS)
    return files


def real_frames(videos: Path, width: int, height: int) -> Iterator[av.VideoFrame]:
    """2.4 s each of videos of the list that are long and large enough, until there are as many frames as wanted."""
    index = VideoIndex.read(videos)
    left = RATE * SECONDS
    for row in np.random.default_rng(0).permutation(len(index)).tolist():
        with av.open(str(index.path(row))) as container:
            stream = container.streams.video[0]
            if stream.width < 220 or stream.frames < 60:
                continue
            for _, frame in zip(range(min(60, left)), container.decode(stream), strict=False):
                left -= 1
                yield frame.reformat(width, height, "yuv420p", interpolation="BICUBIC")
        if not left:
            return


def write(file: Path, frames: Iterator[av.VideoFrame], gop: int) -> None:
    with av.open(str(file), "w", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=RATE)
        stream.options = {"preset": "medium", "crf": "23"}
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(frames):
            if number == 0:
                stream.width, stream.height, stream.pix_fmt, stream.gop_size = (
                    frame.width,
                    frame.height,
                    "yuv420p",
                    gop,
                )
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            frame.pict_type = av.video.frame.PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def repeat(source: Path, file: Path, times: int) -> None:
    """The packets of a file several times over: the encoder's work is done once."""
    with av.open(str(file), "w", options={"movflags": "faststart"}) as container:
        with av.open(str(source)) as opened:
            stream = container.add_stream_from_template(opened.streams.video[0])
        for turn in range(times):
            with av.open(str(source)) as opened:
                video = opened.streams.video[0]
                for packet in opened.demux(video):
                    if packet.size:
                        packet.pts += turn * video.duration  # type: ignore[operator]
                        packet.dts += turn * video.duration  # type: ignore[operator]
                        packet.stream = stream
                        container.mux(packet)


def measured(file: Path, clips: int, rounds: int) -> dict[str, dict[str, float]]:
    timeline = read_timeline(file)
    starts = np.random.default_rng(1).integers(timeline.info.num_frames - FRAMES * STRIDE, size=clips)
    places = [start + STRIDE * np.arange(FRAMES) for start in starts]
    rows = decoders(file, timeline)
    expected = rows["ours, time line known"](places[0]).astype(int)
    for name, decode in rows.items():
        difference = np.abs(decode(places[0]).astype(int) - expected).mean()
        assert difference < PIXELS, (name, difference)
    spent: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, decode in rows.items():
            started = time.process_time()
            for place in places:
                decode(place)
            spent[name].append((time.process_time() - started) / clips * 1e3)
    floor = [least(file, timeline, places) for _ in range(rounds)]
    spent["floor: decoding alone"] = floor
    return {name: {"ms": min(values), "most": max(values)} for name, values in spent.items()}


def shrinking(file: Path, rounds: int) -> str:
    """What it costs to make 720p frames 256 pixels high while they are converted (libswscale), or after (as training does)."""
    with av.open(str(file)) as container:
        frames = [
            frame for i, frame in zip(range(120), container.decode(video=0), strict=False) if i % 8 == 0
        ]
    reformatter = VideoReformatter()

    def after() -> Any:
        whole = np.stack([reformatter.reformat(frame, format="rgb24").to_ndarray() for frame in frames])
        return resize_short_side(torch.from_numpy(whole), 256).numpy()

    def while_converting() -> Any:
        how = {"format": "rgb24", "interpolation": Interpolation.BILINEAR}
        return np.stack([reformatter.reformat(frame, *size, **how).to_ndarray() for frame in frames])

    expected, spent = after(), {}
    size = expected.shape[2:0:-1]
    for shrink in (after, while_converting):
        spent[shrink] = []
        for _ in range(rounds):
            started = time.process_time()
            shrink()
            spent[shrink].append((time.process_time() - started) / len(frames) * 1e3)
    error = float(((while_converting().astype(float) - expected) ** 2).mean())
    one, other = (f"{min(values):.2f} ({max(values):.2f})" for values in spent.values())
    decibels = 10 * np.log10(255**2 / error)
    return f"720p to 256, CPU ms a frame: {one} after conversion, {other} while converting, {decibels:.1f} dB apart"


def decoders(file: Path, timeline: Timeline) -> dict[str, Decode]:
    """Each opens the file and gives frames (16, H, W, 3)."""
    rows: dict[str, Decode] = {"raw PyAV": lambda at: raw_pyav(file, timeline, at)}
    if "decord" in loadable_decoders():
        import decord

        rows["raw decord"] = lambda at: (
            decord.VideoReader(str(file), num_threads=1).get_batch(at.tolist()).asnumpy()
        )
    if "torchcodec" in loadable_decoders():
        from torchcodec.decoders import VideoDecoder

        for mode in ("exact", "approximate"):
            rows[f"raw torchcodec, {mode}"] = lambda at, mode=mode: (
                VideoDecoder(str(file), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode=mode)
                .get_frames_at(at.tolist())
                .data.numpy()
            )
    rows["ours, scanning"] = lambda at: ours(file, "auto", None, at)
    rows["ours, time line known"] = lambda at: ours(file, "auto", timeline, at)
    for name in loadable_decoders():
        if name != "pyav":
            rows[f"ours, known, {name}"] = lambda at, name=name: ours(file, name, timeline, at)
    return rows


def ours(file: Path, backend: str, timeline: Timeline | None, at: Any) -> Any:
    with open_video(file, backend, timeline) as video:
        return video.frames(at)


def raw_pyav(file: Path, timeline: Timeline, at: Any) -> Any:
    """As a person would write it: seek, decode, convert what is wanted. It is given the stamps, which it has no way to know."""
    assert timeline.pts is not None
    wanted, found = set(timeline.pts[at].tolist()), []
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(int(timeline.pts[at[0]]), stream=stream)
        for frame in container.decode(stream):
            if frame.pts in wanted:
                found.append(frame.to_ndarray(format="rgb24"))
                if len(found) == len(wanted):
                    break
    return np.stack(found)


def least(file: Path, timeline: Timeline, places: list[Any]) -> float:
    """Milliseconds for a clip where only what its frames need is decoded, and only they are converted."""
    assert timeline.pts is not None
    pts, spent = timeline.pts, 0.0
    for at in places:
        wanted = set(pts[at].tolist())
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            context.thread_count = 1
            packets, rest = [], set(wanted)
            container.seek(int(pts[at[0]]), stream=stream)
            for packet in container.demux(stream):
                if packet.is_keyframe and packet.pts is not None and packet.pts <= pts[at[0]]:
                    packets.clear()
                packets.append(packet)
                rest.discard(packet.pts)
                if not rest:
                    break
            reformatter = VideoReformatter()
            started = time.process_time()
            for packet in [*packets, None]:
                context.skip_frame = "DEFAULT" if packet is None or packet.pts in wanted else "NONREF"
                for frame in context.decode(packet):
                    if frame.pts in wanted:
                        reformatter.reformat(frame, format="rgb24", threads=1)
            spent += time.process_time() - started
    return spent / len(places) * 1e3


if __name__ == "__main__":
    main()
