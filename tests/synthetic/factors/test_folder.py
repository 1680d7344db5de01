"""A folder of factor videos: what is read back is what was drawn, byte for byte the same, or not there at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from vidssl.data.decode import open_video
from vidssl.errors import VidsslError
from vidssl.files import read_json
from vidssl.synthetic.factors import folder as module
from vidssl.synthetic.factors.folder import write_factor_videos
from vidssl.synthetic.factors.scenes import SCENES, factor_clips, sample_table
from vidssl.synthetic.factors.table import read_factors


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("scene", SCENES)
def test_the_videos_show_the_clips_of_their_rows(tmp_path: Path, scene: str) -> None:
    done: list[tuple[int, int]] = []
    write_factor_videos(tmp_path / "a", scene, clips=3, frames=4, seed=7, progress=lambda *n: done.append(n))
    assert done == [(1, 3), (2, 3), (3, 3)]
    table = read_factors(tmp_path / "a")
    drawn = sample_table(scene, 3, seed=7)
    assert np.array_equal(table.values, drawn.values)
    assert (table.names, table.sizes, table.motion) == (drawn.names, drawn.sizes, drawn.motion)
    clips = factor_clips(scene, table.values, frames=4, seed=7).astype(int)
    for path, clip in zip(table.paths, clips, strict=True):
        with open_video(path) as reader:
            shown = np.asarray(reader.frames(range(4))).astype(int)
        errors = [np.abs(shown - other).mean() for other in clips]
        assert np.abs(shown - clip).mean() == min(errors) < 6  # H.264 halves the resolution of colours
    record = read_json(tmp_path / "a" / "factors.json")
    assert (record["scene"], record["seed"], record["frames"], record["size"]) == (scene, 7, 4, 64)


def test_the_same_bytes_twice_and_others_of_another_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_factor_videos(tmp_path / name, clips=2, frames=3, size=32, seed=seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert not set(digests(tmp_path / "a").values()) & set(digests(tmp_path / "c").values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"clips": 0}, "clips=0"),
        ({"frames": 0}, "frames=0"),
        ({"size": 0}, "size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"fps": 0}, "fps=0"),
        ({"scene": "sprits"}, "did you mean 'sprites'"),
    ],
)
def test_a_mistake_is_named_and_nothing_written(
    tmp_path: Path, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(VidsslError, match=said):
        write_factor_videos(tmp_path / "a", **{"clips": 2, **arguments})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_is_stopped_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.write_factor_videos(tmp_path / "a", clips=2, frames=2, size=16, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(VidsslError, match="is not empty; choose another folder"):
        write_factor_videos(tmp_path, clips=1)
    with pytest.raises(VidsslError, match="is a file"):
        write_factor_videos(tmp_path / "note", clips=1)
    assert (tmp_path / "note").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    write_factor_videos(tmp_path / "empty", clips=1, frames=2, size=16)
    assert len(read_factors(tmp_path / "empty").paths) == 1
