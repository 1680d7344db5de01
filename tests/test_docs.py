"""The documentation: its code runs, its commands are ours, and pages that are made from the code can be made."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def test_the_examples_of_extending_run(sprites, finished, tmp_path, monkeypatch, capsys):
    """As one program, in the order of the page."""
    from vidssl.objectives.composite import OBJECTIVES

    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").symlink_to(sprites)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "first").symlink_to(finished)
    try:
        exec("\n".join(blocks(ROOT / "docs" / "extending.md", "python")), {})
    finally:
        OBJECTIVES.pop("alignment_uniformity", None)
    said = capsys.readouterr().out
    assert all(name in said for name in ("trained", "untrained", "motion energy", "chance"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    """Within the repository; what only the site has, its hook makes."""
    made = {
        f"{ROOT}/docs/{name}" for name in runpy.run_path(str(ROOT / "scripts" / "docs_pages.py"))["PAGES"]
    }
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        file = (page.parent / target).resolve()
        assert file.exists() or str(file) in made, f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_list_stands_apart_from_the_paragraph_before(page):
    """Or the site, other than GitHub, runs it on as one paragraph with dashes in it."""
    text = re.sub(r"^```.*?^```", "```\n", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    prose = r"^(?!\s|- |\d+\. |#|\||```|>|<).+\n"
    assert not re.findall(prose + r"(?:- |\d+\. ).*", text, re.MULTILINE)


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text()
    made = set(runpy.run_path(str(ROOT / "scripts" / "docs_pages.py"))["PAGES"])
    named = set(re.findall(r"(\S+\.md)$", nav, re.MULTILINE))
    assert named == {str(file.relative_to(ROOT / "docs")) for file in (ROOT / "docs").rglob("*.md")} | made


def test_commands_in_the_pages_are_ours():
    from typer.main import get_command

    from vidssl.cli.app import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    for page in PAGES:
        for command in re.findall(
            r"^(?:\.venv/bin/)?vidssl ([a-z-]+)", "\n".join(blocks(page, "")), re.MULTILINE
        ):
            assert command in known, f"{page.name}: vidssl {command}"


def test_pages_made_from_the_code_have_every_key_and_table():
    pages = runpy.run_path(str(ROOT / "scripts" / "docs_pages.py"))["PAGES"]
    keys, results = pages["keys.md"](), pages["results.md"]()
    assert "| `train.batch_size` |" in keys and "objective.hsic.kappa" in keys
    for file in (ROOT / "benchmarks" / "results").glob("*.md"):
        assert file.name in results
    for part in results.split("File: `")[:-1]:
        assert re.search("^## ", part, re.MULTILINE)  # what it is, and where the next one begins
    assert "](docs/" not in pages["index.md"]()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="the group docs is not installed")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "keys" / "index.html").is_file()
