"""What a package says of itself agrees with the code."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import yaml

from vidssl.version import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_has_the_version_and_the_licence():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__ and cited["license"] == PROJECT["license"]


def test_the_changelog_has_the_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## {re.escape(__version__)}\b", text, re.MULTILINE)


def test_the_readme_is_short_and_has_a_picture():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text):
        assert (ROOT / picture).stat().st_size < 200_000


def test_every_extra_that_the_code_names_is_declared():
    """An error that advises `pip install "vidssl[x]"` must not lead nowhere."""
    named = {
        extra
        for file in (ROOT / "vidssl").rglob("*.py")
        for extra in re.findall(r"vidssl\[(?!extra)([a-z]+)\]", file.read_text(encoding="utf-8"))
    }
    assert named and named <= set(PROJECT["optional-dependencies"])


def test_every_dependency_has_a_lowest_version():
    declared = [*PROJECT["dependencies"], *chain.from_iterable(PROJECT["optional-dependencies"].values())]
    assert all(re.search(r">=\d", one) for one in declared)


def test_workflows_try_what_is_declared():
    ci = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    lowest = re.search(r">=(3\.\d+)", PROJECT["requires-python"])[1]
    assert f'"{lowest}"' in ci
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        assert set(yaml.safe_load(file.read_text())) >= {"name", "jobs"}
