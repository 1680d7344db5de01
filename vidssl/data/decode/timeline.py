"""Which frames a file holds, when each is shown and how it must be turned: read from the packets, hardly decoding.

Every decoder here shares this index, so that frame i means the same picture whichever of them delivers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.container import complaint, decoded_frames, opened, whole_packets
from vidssl.data.decode.orientation import Orientation
from vidssl.data.decode.reader import DecodeError, VideoInfo, decoding, one_line
from vidssl.data.decode.trouble import MachineTroubleError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

NO_STAMP = np.iinfo(np.int64).min
_HIDING = (
    "vp8",
    "vp9",
    "libvpx",
    "libvpx-vp9",
)  # decoders of codecs that have pictures which are never shown
DEFAULT_FPS = 25.0  # FFmpeg's own assumption for streams without any timing


@dataclass(frozen=True)
class Timeline:
    """The index of one video.

    Attributes:
        info, times: as in `VideoReader`.
        pts: (num_frames,) stamps in ticks, strictly increasing; None where stamps do not name frames (see
            `_trusted_stamps`), so that only counting from the start finds frame i.
        tick: seconds of a tick.
        key_pts, key_dts: (K,) where decoding may start: stamps of the key frames (key_pts increase).
        orientation: how decoded frames become upright.
        container, codec: names of the formats. bits: per sample. subsampled: chroma is coarser than luma.
        edited: some packets are decoded but not shown. open_gop: some pictures refer across a key frame.
        refused: decoders that were tried on this file and failed.
    """

    info: VideoInfo
    times: NDArray[np.float64]
    pts: NDArray[np.int64] | None
    tick: float
    key_pts: NDArray[np.int64]
    key_dts: NDArray[np.int64]
    orientation: Orientation
    container: str
    codec: str
    bits: int
    subsampled: bool
    edited: bool
    open_gop: bool
    refused: tuple[str, ...] = ()


# Columns over the packets in file order.
_PACKET = np.dtype([("pts", np.int64), ("dts", np.int64), ("key", np.bool_), ("shown", np.bool_)])
_Packets = NDArray[np.void]


def read_timeline(path: Path) -> Timeline:
    """Index a video: one pass over its packets and, usually, one decoded frame.

    Raises:
        DecodeError: not a video, or its first frame cannot be decoded.
    """
    import av

    with decoding(path, "pyav"), opened(path) as (container, stream):
        try:
            packets, first = _read_packets(container, stream)
        except av.FFmpegError as error:
            if stream.width:
                raise
            raise DecodeError(path, "pyav", complaint(path)) from error  # frames too large, or of no size
        if first is None:
            raise DecodeError(path, "pyav", "the video stream holds no decodable frame")
        if first.is_corrupt:
            raise DecodeError(path, "pyav", "the first frame is damaged")
        orientation, components = Orientation.of(first), first.format.components
        fps = float(stream.average_rate or stream.guessed_rate or 0) or DEFAULT_FPS
        pts = _trusted_stamps(packets, first, container, stream)
        tick = float(stream.time_base or 1)
        times = _count_frames(path, fps) if pts is None else (pts - pts[0]) * tick
        width, height = (first.height, first.width) if orientation.transpose else (first.width, first.height)
        keys = packets["key"] & (packets["pts"] != NO_STAMP)
        return Timeline(
            info=_info(times, fps, height, width),
            times=times,
            pts=pts,
            tick=tick,
            key_pts=packets["pts"][keys],
            key_dts=packets["dts"][keys],
            orientation=orientation,
            container=container.format.name,
            codec=stream.codec.canonical_name,
            bits=max(c.bits for c in components),
            subsampled=any(c.width < first.width or c.height < first.height for c in components),
            edited=not packets["shown"].all(),
            open_gop=_has_leading_pictures(packets),
        )


def _read_packets(container: InputContainer, stream: VideoStream) -> tuple[_Packets, VideoFrame | None]:
    """The stream's whole packets, and the first frame that they decode to."""
    rows: list[tuple[int, int, bool, bool]] = []
    first: VideoFrame | None = None
    hiding = stream.codec_context.name in _HIDING  # asked once: files have thousands of packets
    for packet in whole_packets(container, stream):
        if first is None:
            first = next(iter(packet.decode()), None)
        if packet.size:  # the last one is empty: it asks the decoder for what it still holds
            pts = NO_STAMP if packet.pts is None else packet.pts
            dts = pts if packet.dts is None else packet.dts
            shown = not packet.is_discard and not (hiding and _is_hidden(packet, stream))
            rows.append((pts, dts, packet.is_keyframe, shown))
    return np.array(rows, dtype=_PACKET), first


def _is_hidden(packet: Packet[VideoStream], stream: VideoStream) -> bool:
    """Whether a VP8 or VP9 packet holds only a picture that is never shown (an "alternate reference").

    Read from the show_frame bit of the frame header (RFC 6386 §9.1; VP9 bitstream specification §6.2). A VP9
    superframe (its last byte is 110xxxxx) always ends in a shown picture.
    """
    data = memoryview(packet)
    head, last = data[0], data[-1]
    if "9" not in stream.codec_context.name:
        return not head >> 4 & 1
    # Its first bits: show_existing_frame, frame_type, show_frame.
    after_profile = head << (4 + (head >> 4 & 3 == 3)) & 0xFF
    show_existing, show = after_profile >> 7 & 1, after_profile >> 5 & 1
    return not (show_existing or show or last >> 5 == 0b110)


def _trusted_stamps(
    packets: _Packets, first: VideoFrame, container: InputContainer, stream: VideoStream
) -> NDArray[np.int64] | None:
    """Sorted stamps of the shown packets if they name the frames one to one in order, else None.

    They do not when some are missing or repeated, when time jumps back between key frames (joined streams), when the
    first decoded frame is not the earliest, and in AVI with reordered frames, whose stamps count packets instead.
    """
    shown = np.sort(packets["pts"][packets["shown"]])
    keys = packets["pts"][packets["key"]]
    is_avi = "avi" in container.format.name.split(",")
    if (
        shown.size == 0
        or shown[0] == NO_STAMP
        or (np.diff(shown) <= 0).any()
        or (np.diff(keys) <= 0).any()
        or first.pts != shown[0]
        or (is_avi and stream.codec_context.has_b_frames)
    ):
        return None
    return shown


def _count_frames(path: Path, fps: float) -> NDArray[np.float64]:
    """Times in seconds of the frames that a decode from start to end delivers, up to the first damage."""
    stamps: list[int | None] = []
    with opened(path) as (container, stream):
        tick = float(stream.time_base or 0)
        try:
            for frame in decoded_frames(whole_packets(container, stream)):
                if frame.is_corrupt:
                    break
                stamps.append(frame.pts)
        except MachineTroubleError:
            raise
        except Exception as error:
            if not stamps:
                raise DecodeError(path, "pyav", one_line(error)) from error
    if not stamps:
        raise DecodeError(path, "pyav", "the first frame is damaged")
    given = np.array([stamp for stamp in stamps if stamp is not None], dtype=np.int64)
    times: NDArray[np.float64] = np.arange(len(stamps)) / fps
    if given.size == len(stamps) and (np.diff(given) >= 0).all():
        times = (given - given[0]) * tick
    return times


def _has_leading_pictures(packets: _Packets) -> bool:
    """Whether pictures are stored after a key frame but shown before it, as only an open GOP does."""
    last_key = np.maximum.accumulate(np.where(packets["key"], np.arange(packets["key"].size), 0))
    return bool((packets["pts"] < packets["pts"][last_key]).any())


def _info(times: NDArray[np.float64], header_fps: float, height: int, width: int) -> VideoInfo:
    """The header's rate where the frames bear it out to 1 %, else the mean rate of the frames."""
    fps, span = header_fps, float(times[-1])
    if span > 0:
        mean = (times.size - 1) / span
        fps = header_fps if abs(header_fps / mean - 1) < 0.01 else mean
    return VideoInfo(num_frames=times.size, fps=fps, duration=span + 1 / fps, height=height, width=width)
