"""The layout of the code, held: floors and circles by import-linter, the size of rooms and files, one line on each."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "vidssl").rglob("*.py"))


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """The contracts of ``pyproject.toml`` on the package in `folder`."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as run; run()",
        "--no-cache",
    ]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the sources and of the contracts."""
    shutil.copytree(ROOT / "vidssl", tmp_path / "vidssl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        (None, "", "0 broken"),
        ("data/rng.py", "from vidssl.models.factory import create_model", "vidssl.data is not allowed to import vidssl.models"),
        ("models/encoder.py", "def late():\n    from vidssl.config import Config", "vidssl.models.encoder -> vidssl.config"),
        ("evaluation/probes/knn.py", "from vidssl.training import pretrain", "vidssl.evaluation is not allowed to import vidssl.training"),
        ("data/rng.py", "from vidssl.data.order import GlobalBatchSampler", "No cycles are allowed in vidssl.data"),
        ("evaluation/probes/knn.py", "from vidssl.dynamics._engine import layout", "vidssl.evaluation.probes.knn -> vidssl.dynamics._engine"),
        ("objectives/ressl.py", "import accelerate", "vidssl.objectives.ressl -> accelerate"),
    ],
)  # fmt: skip
def test_an_import_against_the_floors_is_found(house: Path, file: str | None, line: str, said: str) -> None:
    if file is not None:
        with (house / "vidssl" / file).open("a") as stream:
            stream.write(f"\n\n{line}\n")
    result = lint_imports(house)
    assert result.returncode == (0 if file is None else 1), result.stdout + result.stderr
    assert said in " ".join(result.stdout.split())


def test_no_contract_has_exceptions() -> None:
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text()


def test_a_room_shows_its_purpose_from_its_names() -> None:
    rooms = Counter(file.parent for file in FILES if file.name != "__init__.py")
    assert {str(room.relative_to(ROOT)): size for room, size in rooms.items() if size > 15} == {}


def test_a_file_is_one_idea_and_says_which() -> None:
    for file in FILES:
        text = file.read_text()
        assert len(text.splitlines()) <= 300, file
        assert ast.get_docstring(ast.parse(text)), f"{file}: says not what it is for"
