from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.data.conftest import write_numbered
from vidssl.data.decode.open import probe_video
from vidssl.data.decode.reader import VideoInfo
from vidssl.data.manifest import probe as probing
from vidssl.data.manifest.check import CheckReport, check_index, require_readable_classes
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.errors import VidsslError


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are really opened."""
    names: list[str] = []
    original = probing._Prober.probe

    def recording(self: probing._Prober, path: Path) -> probing.Row:
        names.append(path.name)
        return original(self, path)

    monkeypatch.setattr(probing._Prober, "probe", recording)
    return names


def test_good_and_bad_are_told_apart(index: VideoIndex) -> None:
    report = check_index(index, workers=2)
    assert report.good.paths == ("jump/c.mp4", "run/a.mp4", "run/b.mp4")
    assert report.good.classes == index.classes
    assert report.infos == tuple(probe_video(report.good.path(i)) for i in range(3))
    assert [(bad.path, bad.label) for bad in report.bad] == [
        ("jump/empty.mp4", "jump"),
        ("jump/text.mp4", "jump"),
        ("run/broken.mp4", "run"),
    ]
    assert report.bad[0].reason == "the file is empty"
    assert "moov atom not found" in report.bad[2].reason


def test_only_changed_files_are_opened_again(index: VideoIndex, probed: list[str], numbered: Path) -> None:
    first = check_index(index)
    assert len(probed) == 6
    assert check_index(index) == first
    assert len(probed) == 6
    assert check_index(index.subset([0])).good.paths == ("jump/c.mp4",)
    text = index.root / "jump/text.mp4"
    text.write_bytes(numbered.read_bytes())
    os.utime(index.root / "run/a.mp4", ns=(1, 1))
    (index.root / "run/b.mp4").unlink()
    second = check_index(index)
    assert sorted(probed[6:]) == ["b.mp4", "text.mp4"]  # the content of a.mp4 is what it was
    assert "jump/text.mp4" in second.good.paths
    assert FailedVideo(4, "run/b.mp4", "no such file", "run") in second.bad
    check_index(index, cache=False)
    assert len(probed) == 6 + 2 + 6


@pytest.mark.parametrize("content", [b"", b"{", b"ARROW1", b"ARROW1\0\0" + bytes(200)])
def test_a_damaged_cache_is_ignored(
    index: VideoIndex, cache: Path, probed: list[str], content: bytes
) -> None:
    first = check_index(index)
    (file,) = (cache / "checked").iterdir()
    file.write_bytes(content)
    assert check_index(index) == first
    assert len(probed) == 12
    assert check_index(index) == first
    assert len(probed) == 12
    assert [path.name for path in (cache / "checked").iterdir()] == [
        file.name
    ]  # nothing half-written beside it


def test_what_is_known_of_other_files_below_the_root_stays(index: VideoIndex, probed: list[str]) -> None:
    check_index(index.subset([0, 1]))
    check_index(index.subset([2, 3]))
    assert len(probed) == 4
    check_index(index.subset([3, 0]))
    assert len(probed) == 4


def test_a_new_decoder_asks_all_again(
    index: VideoIndex, probed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_index(index)
    monkeypatch.setattr("vidssl.data.decode.choice.version", lambda name: "0.1")
    check_index(index)
    assert len(probed) == 12


def test_a_cache_that_cannot_be_written_does_no_harm(index: VideoIndex, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    assert len(check_index(index).good) == 3


def test_crashes_and_hangs_cost_one_file_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probed: list[str]
) -> None:
    names = ["a", "segfault", "b", "hang", "exit", "broken", "c", "segfault2", "d"]
    for name in names:
        (tmp_path / f"{name}.mp4").touch()
    monkeypatch.setattr(probing._Prober, "module", "tests.data.manifest.probe_that_fails")
    index = VideoIndex.read(tmp_path)
    started = time.monotonic()
    report = check_index(index, workers=2, timeout=2.0)
    assert time.monotonic() - started < 20
    assert report.good.paths == ("a.mp4", "b.mp4", "c.mp4", "d.mp4")
    assert report.infos[0] == VideoInfo(num_frames=8, fps=4.0, duration=2.0, height=6, width=5)
    assert {bad.path: bad.reason for bad in report.bad} == {
        "broken.mp4": "broken",
        "exit.mp4": "the decoder crashed (exit code 3)",
        "hang.mp4": "took longer than 2 s to open",
        "segfault.mp4": "the decoder crashed (SIGSEGV)",
        "segfault2.mp4": "the decoder crashed (SIGSEGV)",
    }
    probed.clear()
    check_index(index, workers=1, timeout=1.0)  # a crash may be chance, the file's own word is not
    assert sorted(probed) == ["exit.mp4", "hang.mp4", "segfault.mp4", "segfault2.mp4"]


def touch(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> VideoIndex:
    for name in names:
        (folder / f"{name}.mp4").touch()
    monkeypatch.setattr(probing._Prober, "module", "tests.data.manifest.probe_that_fails")
    return VideoIndex.read(folder)


def test_a_crash_by_chance_is_held_against_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = check_index(touch(tmp_path, monkeypatch, "a", "once", "b"), workers=1)
    assert report.good.paths == ("a.mp4", "b.mp4", "once.mp4")


def test_what_is_no_fault_of_the_files_ends_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "WAITS", (0.01, 0.01))
    with pytest.raises(
        VidsslError, match=r"lost 3 times in a row, the last time at .*killed.mp4 \(SIGKILL\)"
    ):
        check_index(touch(tmp_path, monkeypatch, "a", "killed"), workers=1)
    (tmp_path / "killed.mp4").unlink()
    with pytest.raises(VidsslError, match=r"trouble.mp4: could not be read \(Stale file handle\)"):
        check_index(touch(tmp_path, monkeypatch, "trouble"), workers=1)


def test_every_decoder_that_would_be_used_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_numbered(tmp_path / "a.mp4", frames=5)
    write_numbered(tmp_path / "b.ts", frames=5)
    index = VideoIndex.read(tmp_path)
    assert len(check_index(index).good) == 2
    (bad,) = check_index(index, backend="decord").bad  # not what is remembered of "auto"
    assert (bad.path, bad.decoder, bad.reason) == (
        "b.ts",
        "decord",
        "the container is mpegts, which decord gets wrong",
    )
    monkeypatch.setattr(probing._Prober, "module", "tests.data.manifest.probe_with_bad_decord")
    crashed = check_index(index, backend="decord", cache=False).bad
    assert [bad.reason for bad in crashed] == ["the decoder crashed (SIGABRT)"] * 2
    monkeypatch.setattr("vidssl.data.manifest.check.decoder_order", lambda: ("decord", "pyav"))
    good = check_index(index, cache=False).good  # PyAV reads them
    assert [line.refused for i in range(2) if (line := good.timeline(i))] == [("decord",)] * 2
    with pytest.raises(VidsslError, match="video backend='decrod': unknown; did you mean 'decord'"):
        check_index(index, backend="decrod")


def test_a_script_without_a_main_guard_can_check(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a.mp4", frames=5)
    code = (
        "from vidssl.data.manifest.check import check_index; from vidssl.data.manifest.manifest import VideoIndex\n"
        f"print(len(check_index(VideoIndex.read({str(tmp_path)!r}), cache=False).good))"
    )
    result = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, check=True)
    assert result.stdout == "1\n" and "Error" not in result.stderr


@pytest.mark.parametrize("options", [{"workers": 0}, {"timeout": 0.0}])
def test_impossible_options(index: VideoIndex, options: dict[str, int]) -> None:
    with pytest.raises(VidsslError, match="must be"):
        check_index(index, **options)  # type: ignore[arg-type]


def test_an_empty_class_stops_unless_allowed(index: VideoIndex) -> None:
    report = check_index(index)
    require_readable_classes(report)
    run_only = CheckReport(
        report.good.subset([1, 2]),
        (FailedVideo(0, "jump/c.mp4", "moov atom not found", "jump"), *report.bad),
        report.infos[1:],
        index,
    )
    with pytest.raises(VidsslError) as caught:
        require_readable_classes(run_only)
    assert str(caught.value) == (
        f"{index.root}: class 'jump': none of its 3 videos can be read, the first is jump/c.mp4: moov atom not found; "
        "repair it, or set allow_empty_classes"
    )
    require_readable_classes(run_only, allow_empty_classes=True)
    nothing = CheckReport(report.good.subset([]), report.bad, (), index)
    with pytest.raises(VidsslError, match="none of the 3 videos can be read, the first is jump/empty"):
        require_readable_classes(nothing, allow_empty_classes=True)
