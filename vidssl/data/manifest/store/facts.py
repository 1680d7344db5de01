"""What is known of one file, as a row of a table: its size and content, its time line, and what decoders make of it.

Time stamps are kept as runs: a file of constant rate takes one (count, gap) pair however long it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.choice import DECODERS
from vidssl.data.decode.open import find_timeline, open_video
from vidssl.data.decode.orientation import Orientation
from vidssl.data.decode.reader import DecodeError, VideoInfo
from vidssl.data.decode.timeline import Timeline
from vidssl.data.manifest.content import content_hash, file_stamp

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
Ints = NDArray[np.int64]

# Clockwise turn in degrees, then whether left and right change places: the eight orientations.
_TURNS = {
    Orientation(transpose, flip_x, flip_y): (turn, mirrored)
    for turn, mirrored, transpose, flip_x, flip_y in (
        (0, False, False, False, False),
        (90, False, True, True, False),
        (180, False, False, True, True),
        (270, False, True, False, True),
        (0, True, False, True, False),
        (90, True, True, False, False),
        (180, True, False, False, True),
        (270, True, True, True, True),
    )
}
_ORIENTATIONS = {turn: orientation for orientation, turn in _TURNS.items()}
INFO = [field.name for field in fields(VideoInfo)]
_AS_THEY_ARE = ("tick", "container", "codec", "bits", "subsampled", "edited", "open_gop")


def fact_schema() -> pa.Schema:
    """The columns: all but `path`, `bytes` and `changed` are null where they are not known.

    path is bytes, since names of files need not be text; changed is in nanoseconds since 1970; content as in `content_hash`;
    error says why the file cannot be used. stamps are runs (count, gap) of time stamps from first_stamp on, in ticks; where
    time stamps do not name the frames (see `Timeline`) there are times in seconds instead. The columns named like decoders
    are empty where they decoded the first frame, else they say why not; null where they were not asked.
    """
    import pyarrow as pa

    whole, seconds, text, yes = pa.int64(), pa.float64(), pa.string(), pa.bool_()
    columns: dict[str, pa.DataType] = {
        "path": pa.binary(), "bytes": whole, "changed": whole, "content": text, "error": text,
        "num_frames": whole, "fps": seconds, "duration": seconds, "height": pa.int32(), "width": pa.int32(),
        "rotation": pa.int16(), "mirrored": yes, "container": text, "codec": text, "bits": pa.int16(),
        "subsampled": yes, "edited": yes, "open_gop": yes, "tick": seconds, "first_stamp": whole,
        "stamps": pa.large_list(whole), "times": pa.large_list(seconds),
        "key_pts": pa.large_list(whole), "key_dts": pa.large_list(whole),
    }  # fmt: skip
    return pa.schema([*columns.items(), *((name, text) for name in DECODERS)])


def examine(path: Path, decoders: Sequence[str]) -> Row:
    """All columns of a file but its path, from one pass over its packets and its first frame by each of some decoders.

    Raises:
        VidsslError: a decoder cannot be loaded, or the machine is in trouble.
    """
    row: Row = dict.fromkeys(fact_columns())
    stamp = file_stamp(path)
    with suppress(OSError):  # the decoder says what is wrong
        row |= {"content": content_hash(path)}
    row |= dict(zip(("bytes", "changed"), stamp or (None, None), strict=True))
    try:
        timeline = find_timeline(path)
    except DecodeError as error:
        return row | {"error": error.reason}
    row |= timeline_row(timeline)
    for name in decoders:
        try:
            with open_video(path, name, timeline) as video:
                video.frames([0])
            row[name] = ""
        except DecodeError as error:
            row[name] = error.reason
    return row


def fact_columns() -> list[str]:
    """Names of the columns but `path`."""
    return [name for name in fact_schema().names if name != "path"]


def timeline_row(timeline: Timeline) -> Row:
    """The columns that hold a time line."""
    info, pts = timeline.info, timeline.pts
    turn, mirrored = _TURNS[timeline.orientation]
    row: Row = {name: getattr(info, name) for name in INFO}
    row |= {name: getattr(timeline, name) for name in _AS_THEY_ARE}
    row |= {"rotation": turn, "mirrored": mirrored}
    row |= {"key_pts": timeline.key_pts.tolist(), "key_dts": timeline.key_dts.tolist()}
    if pts is None:
        return row | {"times": timeline.times.tolist()}
    return row | {"first_stamp": int(pts[0]), "stamps": _runs(np.diff(pts)).tolist()}


def timeline_of(row: Mapping[str, Any]) -> Timeline:
    """The time line that `timeline_row` made a row of; its lists may be arrays."""
    if row["stamps"] is None:
        pts, times = None, np.array(row["times"], np.float64)
    else:
        pts = _stamps(row["first_stamp"], np.array(row["stamps"], np.int64))
        times = (pts - pts[0]) * row["tick"]
    return Timeline(
        info=VideoInfo(**{name: row[name] for name in INFO}),
        times=times,
        pts=pts,
        key_pts=np.array(row["key_pts"], np.int64),
        key_dts=np.array(row["key_dts"], np.int64),
        orientation=_ORIENTATIONS[row["rotation"], row["mirrored"]],
        refused=tuple(name for name in DECODERS if row[name]),
        **{name: row[name] for name in _AS_THEY_ARE},
    )


def _runs(gaps: Ints) -> Ints:
    """(2 R,) counts and values in turn of the R runs of equal gaps."""
    starts = np.flatnonzero(np.diff(gaps, prepend=gaps[:1] - 1))
    counts = np.diff(starts, append=gaps.size)
    return np.stack([counts, gaps[starts]], axis=1).reshape(-1)


def _stamps(first: int, runs: Ints) -> Ints:
    gaps = np.repeat(runs[1::2], runs[::2])
    return np.cumsum(np.concatenate([np.array([first], np.int64), gaps]))
