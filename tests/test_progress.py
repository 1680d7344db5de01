from __future__ import annotations

import sys

import pytest

from vidssl import progress
from vidssl.progress import Progress, progress_bar


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_bar_appears_with_the_first_call_and_follows_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("nothing to do", "text"):
        pass
    assert capfd.readouterr().err == ""
    with progress_bar("encoding", "text") as said:
        said(1, 3)
        said(3, 3)
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("encoding: 100%")
    assert "3/3" in last


def test_a_log_file_gets_a_line_every_ten_seconds(capfd: pytest.CaptureFixture[str], clock: Clock) -> None:
    with Progress("pretrain", 1000, "step", done=100) as work:
        for step in range(350):
            work.note = f"loss {step}"
            clock.seconds += 0.125
            work.update()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 5  # after 10, 20, 30 and 40 seconds, and at the end
    assert lines[0] == "pretrain: 18% 180/1000 step [00:10, 01:42 left,  8.00step/s, loss 79]"
    assert lines[-1].startswith("pretrain: 45% 450/1000 step [00:43, ")


def test_the_last_line_is_not_written_twice(capfd: pytest.CaptureFixture[str], clock: Clock) -> None:
    with Progress("val", 1, "video") as work:
        clock.seconds += 20
        work.update()
    assert len(capfd.readouterr().err.splitlines()) == 1
    with Progress("val", 1, "video") as work:
        clock.seconds += 20
        work.update()
        work.note = "loss 1"
    assert capfd.readouterr().err.splitlines()[-1].endswith("loss 1]")


def test_what_is_mostly_quick_is_shown_only_where_it_takes_long(
    capfd: pytest.CaptureFixture[str], clock: Clock
) -> None:
    for seconds, lines in ((0.5, 0), (2.0, 1)):
        with Progress("val", 5, "video", delay=1) as work:
            clock.seconds += seconds
            work.update(5)
        assert len(capfd.readouterr().err.splitlines()) == lines
    with Progress("val", 5, "video", show=False) as work:
        clock.seconds += 60
        work.update(5)
        work.say("nothing")
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_and_sentences_stand_above_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("pretrain", 2, "step") as work:
        work.note = "loss 1"
        work.update(2)
        work.say("a sentence")
    printed = capfd.readouterr()
    assert "a sentence" in printed.out
    assert "100%|" in printed.err
    assert "loss 1" in printed.err
