"""The PyAV decoder: right on every file FFmpeg can read, and decoding no more of it than the wanted frames need."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.container import (
    decoded_frames,
    decoded_now,
    is_indexed,
    open_stream,
    opens_quickly,
    whole_packets,
)
from vidssl.data.decode.reader import DecodeError, Indices, VideoReader, decoding
from vidssl.data.decode.timeline import Timeline, read_timeline
from vidssl.data.decode.trouble import MachineTroubleError, machine_trouble

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SEEK_GAP = 8  # frames that are cheaper to decode and drop than to jump over
MAX_HELD = 2  # frames for which a picture may stand in when their packets silently decode to nothing


class PyAVReader(VideoReader):
    """`VideoReader` on PyAV.

    Decoding starts at the last key frame not after the first wanted one, and leaves out pictures that no other refers to.
    Seeking only saves reading: frames are told by their stamps, and where a seek lands wrong, or a "key frame" is none, the
    file is taken from its start. Whatever does not come as it should is decoded again, picture by picture.

    Raises:
        DecodeError: not a video, or its first frame cannot be decoded.
    """

    def __init__(self, path: str | Path, timeline: Timeline | None = None) -> None:
        self.path, self.backend = Path(path), "pyav"
        self._timeline = timeline or read_timeline(self.path)
        self.info, self.times = self._timeline.info, self._timeline.times
        self._quick = opens_quickly(self._timeline.container, self._timeline.codec)
        self._open: tuple[InputContainer, VideoStream] | None = None

    def each(self, indices: Indices) -> Iterator[NDArray[np.uint8]]:
        """See `VideoReader`; one frame is held at a time, and the file is run through once."""
        unique, counts = np.unique(np.asarray(indices, dtype=np.int64), return_counts=True)
        pictures = self._upright(unique)
        for count in counts.tolist():
            with decoding(self.path, self.backend):
                picture = next(pictures)
            yield from repeat(picture, count)

    def frames_into(self, indices: Indices, out: NDArray[np.uint8]) -> None:
        """See `VideoReader`; without a copy of them all where the indices rise."""
        wanted = self._inside(indices)
        if (np.diff(wanted) <= 0).any():
            super().frames_into(wanted, out)
            return
        with decoding(self.path, self.backend):
            self._fill(out, wanted)

    def _decode(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        unique, inverse = np.unique(wanted, return_inverse=True)
        pictures = np.empty((unique.size, self.info.height, self.info.width, 3), dtype=np.uint8)
        self._fill(pictures, unique)
        return pictures if np.array_equal(unique, wanted) else pictures[inverse]

    def _fill(self, pictures: NDArray[np.uint8], wanted: NDArray[np.int64]) -> None:
        for picture, decoded in zip(pictures, self._upright(wanted), strict=True):
            picture[:] = decoded

    def _upright(self, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """The frames at ``wanted`` (increasing), one each, as RGB."""
        from av.video.reformatter import VideoReformatter

        upright = self._timeline.orientation
        shape = (self.info.height, self.info.width)
        height, width = shape[::-1] if upright.transpose else shape  # as decoded
        reformatter = VideoReformatter()  # shared: setting up a conversion costs more than converting
        for index, frame in zip(wanted, self._pictures(wanted), strict=True):
            if frame.is_corrupt:
                raise DecodeError(self.path, self.backend, f"frame {index} is damaged")
            # One thread, as everywhere here: handing slices to others costs as much as converting a small frame.
            rgb = reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
            yield upright.apply(np.asarray(rgb.to_ndarray(), dtype=np.uint8))

    def close(self) -> None:
        if self._open is not None:
            self._open[0].close()
            self._open = None

    def _pictures(self, wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
        """The frames at ``wanted`` (increasing), one each."""
        pts, key_pts = self._timeline.pts, self._timeline.key_pts
        if pts is None:
            self._open_plainly()
            yield from self._count_to(wanted)
            return
        # Wanted frames that follow each other closely are one run of decoding; a far one is jumped to.
        key_of = np.searchsorted(key_pts, pts[wanted], side="right") - 1
        key_index = np.searchsorted(pts, key_pts)[key_of]
        jumps = (np.diff(key_of) > 0) & (key_index[1:] - wanted[:-1] > SEEK_GAP)
        for run in np.split(np.arange(wanted.size), np.flatnonzero(jumps) + 1):
            if run.size:
                yield from self._run(int(key_of[run[0]]), pts, wanted[run])

    def _run(self, key: int, pts: NDArray[np.int64], wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
        """The frames at ``wanted``, decoded from a key frame on, in the quick way as far as that gets."""
        done = 0
        if key >= 0 and is_indexed(self._timeline.container):
            for frame in self._only(key, pts[wanted].tolist()):
                yield frame
                done += 1
        if done < wanted.size:
            self._open_plainly()
            yield from self._pick(self._frames_from(key), pts, wanted[done:].tolist())

    def _only(self, key: int, stamps: list[int]) -> Iterator[VideoFrame]:
        """The frames stamped ``stamps`` (increasing) from a key frame on, up to the first that does not come as it should.

        Pictures that no other refers to are not decoded unless they are wanted, and nothing is after the last wanted one: the
        decoder is drained instead. Both leave the others as they are.
        """
        import av

        start = int(self._timeline.key_pts[key])
        packets = self._sought(key) if key > 0 else self._packets_from_start()
        to_send, expected = {start, *stamps}, deque(dict.fromkeys((start, *stamps)))
        is_wanted = start == stamps[0]
        if packets is None:
            return
        context = self._container()[1].codec_context
        try:
            for packet in packets:
                context.skip_frame = "DEFAULT" if packet.pts in to_send else "NONREF"
                to_send.discard(packet.pts)
                last = not to_send and packet.size > 0
                for frame in decoded_now(packet, drain=last):
                    if not expected or frame.pts is None or frame.pts < expected[0]:
                        continue
                    stamp = expected.popleft()
                    if frame.pts != stamp or frame.is_corrupt or (stamp == start and not frame.key_frame):
                        return
                    if is_wanted:
                        yield frame
                    is_wanted = True  # all but the key frame, which may be there only to begin with
                if last or not expected:
                    return
        except MachineTroubleError:
            raise
        except (av.FFmpegError, OSError, ValueError):
            return  # the plain way says what is wrong, if it matters to a wanted frame
        finally:
            context.skip_frame = "DEFAULT"

    def _count_to(self, wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
        """Where stamps do not name the frames: decode from the start and count."""
        targets = set(wanted.tolist())
        for index, frame in enumerate(decoded_frames(self._packets_from_start())):
            if not targets:
                return
            if index in targets:
                targets.remove(index)
                yield frame
        if targets:
            raise DecodeError(self.path, self.backend, f"frame {min(targets)} is missing")

    def _pick(
        self, frames: Iterator[VideoFrame], pts: NDArray[np.int64], wanted: list[int]
    ) -> Iterator[VideoFrame]:
        """Those of ``frames`` (in order of time) that are at ``wanted``; for one without a picture, the one on show."""
        on_show: VideoFrame | None = None
        queue = iter(wanted)
        index = next(queue, None)
        for frame in chain(frames, (None,)):  # None: all has been decoded
            if frame is not None and frame.pts is None:
                continue
            while index is not None and (frame is None or pts[index] < frame.pts):
                if on_show is None or on_show.pts < pts[max(0, index - MAX_HELD)]:
                    raise DecodeError(self.path, self.backend, f"frame {index} is missing")
                yield on_show
                index = next(queue, None)
            if index is not None and frame is not None and pts[index] == frame.pts:
                yield frame
                index = next(queue, None)
            if index is None:
                return
            on_show = frame

    def _frames_from(self, key: int) -> Iterator[VideoFrame]:
        """All frames from key frame ``key`` on; from the start when decoding cannot begin there after all.

        It cannot in a file without a table of key frames, where every packet passes for one.
        """
        if key > 0 and (packets := self._sought(key) or self._read_up_to(key)) is not None:
            frames = decoded_frames(packets)
            first = _first_not_before(frames, int(self._timeline.key_pts[key]))
            if first is not None:
                yield first
                yield from frames
                return
        yield from decoded_frames(self._packets_from_start())

    def _sought(self, key: int) -> Iterator[Packet[VideoStream]] | None:
        """The packets from key frame ``key`` on, found by seeking; None when the seek fails or lands behind it."""
        import av

        container, stream = self._container()
        try:
            container.seek(int(self._timeline.key_dts[key]), stream=stream)
            packets = whole_packets(container, stream)
            for packet in packets:
                if self._is_key(packet, key):
                    return chain((packet,), packets)
                if packet.dts is not None and packet.dts > self._timeline.key_dts[key]:
                    return None
        except MachineTroubleError:
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            if (trouble := machine_trouble(error, self.path)) is not None:
                raise trouble from error
        return None

    def _read_up_to(self, key: int) -> Iterator[Packet[VideoStream]] | None:
        """The packets from key frame ``key`` on, found by reading the file from its start."""
        packets = self._packets_from_start()
        found = next((packet for packet in packets if self._is_key(packet, key)), None)
        return None if found is None else chain((found,), packets)

    def _is_key(self, packet: Packet[VideoStream], key: int) -> bool:
        return packet.is_keyframe and packet.pts == self._timeline.key_pts[key]

    def _packets_from_start(self) -> Iterator[Packet[VideoStream]]:
        self.close()  # opening again is the one way back to the start that every container knows
        container, stream = self._container()
        return whole_packets(container, stream)

    def _container(self) -> tuple[InputContainer, VideoStream]:
        self._open = self._open or open_stream(self.path, self._quick)
        return self._open

    def _open_plainly(self) -> None:
        """Where something is not as expected, FFmpeg finds out for itself what there is to know, from now on."""
        if self._quick:
            self.close()
            self._quick = False


def _first_not_before(frames: Iterator[VideoFrame], stamp: int) -> VideoFrame | None:
    """The key picture stamped ``stamp``, anything earlier dropped; None if it is not the first to come."""
    import av

    try:
        first = next((f for f in frames if f.pts is not None and f.pts >= stamp), None)
    except MachineTroubleError:
        raise
    except (av.FFmpegError, ValueError):
        return None
    return first if first is not None and first.pts == stamp and first.key_frame else None
