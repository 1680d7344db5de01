"""Videos to check, and a folder in place of the user's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidssl.data.manifest.manifest import VideoIndex


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that takes the place of the user's cache."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(folder / name))
    return folder / "vidssl"


@pytest.fixture
def index(tmp_path: Path, numbered: Path) -> VideoIndex:
    """Two classes of real videos, three of them broken."""
    for name in ("run/a.mp4", "run/b.mp4", "jump/c.mp4", "run/broken.mp4", "jump/text.mp4", "jump/empty.mp4"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(numbered.read_bytes())
    (tmp_path / "data/run/broken.mp4").write_bytes(numbered.read_bytes()[:900])
    (tmp_path / "data/jump/text.mp4").write_text("hello")
    (tmp_path / "data/jump/empty.mp4").write_bytes(b"")
    return VideoIndex.read(tmp_path / "data")
