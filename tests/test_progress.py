from __future__ import annotations

import pytest

from vidssl.progress import progress_bar


def test_a_bar_appears_with_the_first_call_and_follows_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("nothing to do", "text"):
        pass
    assert capfd.readouterr().err == ""
    with progress_bar("encoding", "text") as progress:
        progress(1, 3)
        progress(3, 3)
    last = capfd.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("encoding: 100%")
    assert "3/3" in last
