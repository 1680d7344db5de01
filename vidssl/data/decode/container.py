"""Opening a video file with PyAV: safely whatever its name and content, and with FFmpeg's own words when it fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidssl.data.decode.archive import open_member
from vidssl.data.decode.reader import DecodeError
from vidssl.data.decode.trouble import MachineTroubleError, machine_trouble
from vidssl.errors import VidsslError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Formats that store an index of their frames. In MPEG-TS, MPEG-PS, raw streams and the like decord and torchcodec
# return other frames than the wanted ones after a seek.
INDEXED_FORMATS = frozenset({"mp4", "mov", "matroska", "webm", "avi"})

# A frame larger than any camera's (16,384 by 8,192) is not decoded: a file of 40 bytes can ask for gigabytes of memory.
MOST_PIXELS = 2**27
_LIMIT = {"max_pixels": str(MOST_PIXELS)}

# A playlist or concat script in disguise may open nothing but files: no network, no waiting for it.
_OPTIONS = {"protocol_whitelist": "file", **_LIMIT}

# FFmpeg decodes the first frames of a file when it opens it, to find out what their packets leave open: more than half of
# the time that opening takes. It need not where all is known (see `opens_quickly`).
_QUICK = {**_OPTIONS, "skip_frame": "all", "analyzeduration": "1"}


def is_indexed(format_name: str) -> bool:
    """Whether one of FFmpeg's comma-separated names of a format is among `INDEXED_FORMATS`."""
    return not INDEXED_FORMATS.isdisjoint(format_name.split(","))


def opens_quickly(format_name: str, codec: str) -> bool:
    """Whether frames of such a file are the same where it is opened without decoding: their stamps and order stand in the file."""
    return "mp4" in format_name.split(",") and codec in ("h264", "hevc")


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """What `open_stream` opens, closed at the end of the block."""
    container, stream = open_stream(path)
    with container:
        yield container, stream


def open_stream(path: Path, quick: bool = False) -> tuple[InputContainer, VideoStream]:
    """The container and its best video stream in FFmpeg's eyes, cover pictures left out; decoded by one thread.

    Args:
        quick: nothing is decoded to open it, see `opens_quickly`.

    Raises:
        DecodeError: not a regular file (a pipe would block), not a container that FFmpeg knows, or no video in it.
    """
    import av
    from av.stream import Disposition

    try:
        container = av.open(_source(path), options=_QUICK if quick else _OPTIONS)
    except (DecodeError, MachineTroubleError):
        raise
    except Exception as error:
        raise machine_trouble(error, path) or DecodeError(path, "pyav", complaint(path)) from error
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        container.close()
        raise DecodeError(path, "pyav", "the file has no video stream")
    best = container.streams.best("video")
    stream = next((s for s in streams if best is not None and s.index == best.index), streams[0])
    stream.codec_context.options = dict(_LIMIT)
    stream.codec_context.thread_count = 1  # loaders run one process per core already
    return container, stream


def _source(path: Path) -> Any:
    """What FFmpeg opens: a file by its name, a member of a tar file through Python.

    Raises:
        DecodeError: not a regular file (a pipe would block), or empty.
    """
    try:
        member = None if path.is_file() else open_member(path)
    except MachineTroubleError:
        raise
    except (FileNotFoundError, VidsslError) as error:
        raise DecodeError(path, "pyav", str(error)) from error
    if member is not None:
        if not member.read(1):
            raise DecodeError(path, "pyav", "the file is empty")
        member.seek(0)
        return member
    if not path.is_file():
        what = "not a regular file" if path.exists() else "no such file"
        advice = f"; frames in a folder need their rate, as in {path.name}#fps=12" if path.is_dir() else ""
        raise DecodeError(path, "pyav", what + advice)
    if path.stat().st_size == 0:
        raise DecodeError(path, "pyav", "the file is empty")
    return str(path.absolute())  # never taken for a protocol, as a relative "foo:bar" would be


def complaint(path: Path) -> str:
    """What FFmpeg logs when it opens the file and cannot ("moov atom not found"); its error code alone says too little."""
    import av

    level, skip_repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as logs, suppress(av.FFmpegError, OSError, ValueError):
            av.open(_source(path), options=_OPTIONS).close()
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip_repeated)
    said = " ".join(logs[-1][2].split()).partition(", see the doc")[0] if logs else ""
    return said[:160] or "not a video file that FFmpeg knows"


def whole_packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """The packets that the file holds in full, from the first key frame on: nothing before it can be decoded.

    Where the content fails in the middle of a file, the stream ends there.

    Raises:
        MachineTroubleError: the file could not be read for another reason than its content.
    """
    import av

    began = False
    try:
        for packet in container.demux(stream):
            began = began or packet.is_keyframe
            if began and not packet.is_corrupt:
                yield packet
    except (av.FFmpegError, OSError, ValueError) as error:
        if (trouble := machine_trouble(error, Path(container.name))) is not None:
            raise trouble from error
        if not began:
            raise


def decoded_frames(packets: Iterable[Packet[VideoStream]]) -> Iterator[VideoFrame]:
    """The frames of ``packets`` in order of time; the last packet of a stream is empty and drains the decoder."""
    return chain.from_iterable(packet.decode() for packet in packets)


def decoded_now(packet: Packet[VideoStream], drain: bool) -> Iterator[VideoFrame]:
    """The frames that come when a packet is sent to the decoder, and with ``drain`` all those that it still holds: it takes
    nothing more before the next seek.
    """
    yield from packet.decode()
    if drain:
        yield from packet.stream.codec_context.decode(None)
