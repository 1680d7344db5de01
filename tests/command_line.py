"""What tests of the commands share: running one in this process, and the shape of a message about a mistake."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import vidssl.files
from vidssl.cli import main
from vidssl.evaluation.results.schema import mistake

Run = Callable[..., tuple[int, str, str]]
# Options of an evaluation that make it quick.
FAST = ("--clips", 1, "--workers", 0, "--device", "cpu")


def runner(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command as the user types it; returns exit code, stdout, stderr. Every result that it writes is checked."""
    write_text = vidssl.files.write_text

    def checked(file: Path, text: str) -> Path:
        said = json.loads(text) if Path(file).suffix == ".json" else None
        if isinstance(said, dict) and "task" in said:
            assert mistake(said) is None, f"{file}: {mistake(said)}"
        return write_text(file, text)

    monkeypatch.setattr(vidssl.files, "write_text", checked)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vidssl", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    return run


def one_line(code: int, out: str, err: str) -> str:
    """The message of a user's mistake: exit code 2, one line on stderr, no traceback."""
    assert code == 2
    # On a slow machine a line of progress may have come up before the mistake was met.
    lines = [line for line in err.splitlines() if line.strip() and not re.match(r"[\w ]+: \d+% ", line)]
    assert len(lines) == 1
    assert lines[0].startswith("vidssl: ")
    assert "Traceback" not in out + err
    return err
