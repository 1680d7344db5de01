"""Trouble of the machine is waited out, then an error; it is never taken for a broken video."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from tests.data.fake_videos import FakeReader, FakeVideos, dataset, same, sampler
from vidssl.data.decode import container, trouble
from vidssl.data.decode.open import open_video
from vidssl.data.decode.reader import DecodeError
from vidssl.data.decode.trouble import MachineTroubleError, machine_trouble, patiently
from vidssl.data.loader import build_loader


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "WAITS", (0.01, 0.2, 0.2))


@contextmanager
def no_descriptors() -> Iterator[list[int]]:
    """Every descriptor that this process may have is taken; give some back by closing those in the list."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limits[1]), limits[1]))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while len(taken) < 256:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield taken
    finally:
        while taken:
            os.close(taken.pop())
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("backend", ["auto", "pyav", "decord"])
def test_too_many_open_files_are_no_broken_video(numbered: Path, backend: str) -> None:
    with open_video(numbered, backend) as video:  # everything is imported
        expected = video.frames([0, 1])
    with no_descriptors() as taken:
        with pytest.raises(MachineTroubleError, match=r"Too many open files.*not to blame.*ulimit") as caught:
            patiently(lambda: open_video(numbered, backend), numbered)
        assert "\n" not in str(caught.value)

        def give_back() -> None:
            while taken:
                os.close(taken.pop())

        timer = threading.Timer(0.05, give_back)
        timer.start()
        with patiently(lambda: open_video(numbered, backend), numbered) as video:
            assert np.array_equal(video.frames([0, 1]), expected)
        timer.join()


class Troubled(FakeVideos):
    """Videos one of which fails with an error of the machine, `often` times."""

    def __init__(self, error: Exception, log: Path, often: int) -> None:
        super().__init__(12)
        self.error, self.log, self.often = error, log, often

    def open(self, path: Path, *, timeline: object = None) -> FakeReader:
        if path.stem == "3":
            with self.log.open("a") as log:
                log.write("x")
            if self.log.stat().st_size <= self.often:
                raise self.error
        return super().open(path)


ERRORS = [OSError(errno.ESTALE, "Stale file handle"), OSError(errno.ENFILE, "Too many open files in system"), MemoryError()]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_passes_leaves_no_trace_and_what_stays_ends_the_command(
    error: Exception, num_workers: int, tmp_path: Path
) -> None:
    calm = list(build_loader(dataset(FakeVideos(12)), sampler(), num_workers=0))
    passing = Troubled(error, tmp_path / "passing", often=3)
    ours = list(build_loader(dataset(passing), sampler(), num_workers=num_workers))
    assert all(same(a, b) for a, b in zip(ours, calm, strict=True))
    staying = Troubled(error, tmp_path / "staying", often=10**9)
    with pytest.raises(MachineTroubleError, match=r"3.mp4: could not be read"):
        list(build_loader(dataset(staying), sampler(), num_workers=num_workers))
    assert (tmp_path / "staying").stat().st_size == 4


def test_an_io_error_is_the_file_s_when_its_bytes_can_be_read(
    numbered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(errno.EIO, "Input/output error")
    assert machine_trouble(error, numbered) is None
    assert machine_trouble(DecodeError(numbered, "pyav", "no such frame"), numbered) is None

    class Unreadable(Path):
        _flavour = type(Path())._flavour  # type: ignore[attr-defined]

        def open(self, *args: object, **options: object) -> None:  # type: ignore[override]
            raise OSError(errno.EIO, "Input/output error")

    found = machine_trouble(error, Unreadable(numbered))
    assert found is not None
    assert "Input/output error" in str(found)
    assert "disk" in str(found)


def test_a_hiccup_that_is_over_when_looked_into_gets_a_second_try(numbered: Path) -> None:
    calls: list[int] = []

    def read() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise DecodeError(numbered, "pyav", "x") from OSError(errno.EIO, "Input/output error")
        return 7

    assert patiently(read, numbered) == 7

    def broken() -> None:
        calls.append(1)
        raise DecodeError(numbered, "pyav", "x") from OSError(errno.EIO, "Input/output error")

    calls.clear()
    with pytest.raises(DecodeError):
        patiently(broken, numbered)
    assert len(calls) == 2


def test_a_stream_that_stops_because_of_the_machine_does_not_end_there(
    numbered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = container.open_stream

    class Failing:
        """A container whose file system goes away after three packets."""

        def __init__(self, inner) -> None:
            self.inner, self.name = inner, inner.name

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *exc: object) -> None:
            self.inner.close()

        def demux(self, stream):
            for number, packet in enumerate(self.inner.demux(stream)):
                if number == 3:
                    raise OSError(errno.ESTALE, "Stale file handle")
                yield packet

    def failing(path: Path):
        inner, stream = original(path)
        return Failing(inner), stream

    monkeypatch.setattr(container, "open_stream", failing)
    with pytest.raises(MachineTroubleError, match="Stale file handle"):
        open_video(numbered, "pyav")
