"""A damaged manifest is refused before anything in it is believed; Arrow itself would read beyond its memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vidssl.data.manifest import indexing
from vidssl.data.manifest.indexing import write_index
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.store.checksums import KEY, read_sealed, write_sealed
from vidssl.errors import VidsslError


@pytest.fixture
def made(tmp_path: Path, numbered: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(indexing, "loadable_decoders", lambda: ("pyav",))
    for name in ("run/a.mp4", "run/b.mp4", "sit/c.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).write_bytes(numbered.read_bytes())
    index = VideoIndex.read(tmp_path / "videos")
    return write_index(index, tmp_path / "all.arrow", 1, progress=False).file


def known(file: Path) -> tuple[object, ...]:
    index = VideoIndex.read(file)
    lines = [index.timeline(i) for i in range(len(index))]
    return (list(index.paths), list(index.labels), index.classes, index.root, [line.info for line in lines if line],
            [line.times.tolist() for line in lines if line])  # fmt: skip


def test_whatever_bit_is_wrong_nothing_wrong_is_read(made: Path) -> None:
    right, content, rng = known(made), made.read_bytes(), np.random.default_rng(0)
    refused = 0
    for place in rng.integers(len(content), size=300).tolist():
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        made.write_bytes(changed)
        try:
            assert known(made) == right, place  # what Arrow fills up with says nothing
        except VidsslError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


def test_one_of_before_there_were_checksums_is_to_be_made_again(made: Path) -> None:
    table = pa.ipc.open_file(made).read_all()
    head = {key: text for key, text in table.schema.metadata.items() if key != KEY}
    with (
        pa.OSFile(str(made), "wb") as sink,
        pa.ipc.new_file(sink, table.schema.with_metadata(head)) as writer,
    ):
        writer.write_table(table.replace_schema_metadata(head))
    with pytest.raises(
        VidsslError, match=r"all\.arrow: is no manifest that can be read \(its checksum is missing"
    ):
        VideoIndex.read(made)


def test_views_of_larger_tables_have_the_checksum_of_what_is_written(tmp_path: Path) -> None:
    words = pa.array(["a", None, "bcd", "", "e"] * 40)
    table = pa.table(
        {"n": pa.array(range(200)), "words": words, "lists": pa.array([[i] * (i % 3) for i in range(200)])}
    )
    part = pa.concat_tables([table.slice(3, 17), table.slice(90, 33)]).replace_schema_metadata({KEY: b""})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, part.schema) as writer:
        write_sealed(writer, part)
    with pa.memory_map(str(tmp_path / "a.arrow")) as source:
        assert read_sealed(pa.ipc.open_file(source)).equals(part)
