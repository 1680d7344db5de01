"""Pages of the documentation that are made from the code and the results; a hook of mkdocs (see mkdocs.yml).

No file is written: a page exists in the site alone, so that it cannot be older than what it is made from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Rooms of the Python API, in the order of the design; each is what a user calls.
API = {
    "Encoders": ["vidssl", "vidssl.models.encoder", "vidssl.models.export"],
    "Pretraining": ["vidssl.training", "vidssl.config"],
    "Runs": ["vidssl.runs", "vidssl.reporting"],
    "Evaluation": ["vidssl.evaluation", "vidssl.evaluation.setup", "vidssl.evaluation.metrics", "vidssl.evaluation.dynamics.report"],
    "Objectives": [
        "vidssl.objectives.base", "vidssl.objectives.composite", "vidssl.objectives.hsic", "vidssl.objectives.spectral",
        "vidssl.objectives.ressl", "vidssl.objectives.entropy", "vidssl.objectives.concept.losses",
    ],
    "State-space models": ["vidssl.dynamics.kalman", "vidssl.dynamics.smoother", "vidssl.dynamics.forecast"],
    "Data": ["vidssl.data.decode.open", "vidssl.data.decode.reader", "vidssl.data.manifest.manifest", "vidssl.data.views", "vidssl.data.dataset"],
    "Tracking": [
        "vidssl.evaluation.tracking.propagation", "vidssl.evaluation.tracking.masks", "vidssl.evaluation.tracking.boxes",
        "vidssl.evaluation.tracking.association", "vidssl.evaluation.tracking.keypoints",
    ],
    "Disentanglement": ["vidssl.evaluation.disentanglement.metrics"],
}  # fmt: skip


def index() -> str:
    """The README; its links into docs/ are links inside the site."""
    return _inside((ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "]("))


def contributing() -> str:
    """CONTRIBUTING.md."""
    return _inside((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))


def changelog() -> str:
    """CHANGELOG.md."""
    return _inside((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))


def keys() -> str:
    """Every key of a recipe, from the types that check it."""
    from vidssl.training.recipes.keys import REQUIRED, recipe_keys

    rows = []
    for key, _ in recipe_keys():
        default = (
            "required"
            if key.default is REQUIRED
            else f"`{json.dumps(key.default, ensure_ascii=False, default=list)}`"
        )
        rows.append(f"| `{key.name}` | {_cell(key.kind)} | {_cell(default)} | {_cell(key.meaning)} |")
    return "\n".join(
        [
            "# Every key of a recipe",
            "",
            "What `vidssl config show` prints, for one view and all objectives. Any key can be set on the command line: "
            "`vidssl pretrain hsic_small train.batch_size=64`. `vidssl config schema` prints the JSON schema that editors use.",
            "",
            "| key | values | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def results() -> str:
    """Every table of benchmarks/results, with the command that made it."""
    parts = [
        "# Results",
        "",
        "Measured with this code; each table names its command. Papers' numbers are not among them.",
        "",
    ]
    for file in sorted((ROOT / "benchmarks" / "results").glob("*.md")):
        text = re.sub(r"^(#+) ", r"#\1 ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
        if not text.startswith("#"):
            parts += [f"## {file.stem.replace('_', ' ').capitalize()}", ""]
        parts += [_inside(text), f"File: `benchmarks/results/{file.name}`", ""]
    return "\n".join(parts)


def api(title: str) -> str:
    """The names of a room that users call, from their docstrings."""
    parts = [f"# {title}", "", "Shapes, units and errors are those of the docstrings.", ""]
    return "\n".join(
        [*parts, *(f"::: {module}\n    options:\n      heading_level: 2\n" for module in API[title])]
    )


PAGES: dict[str, Callable[[], str]] = {
    "index.md": index, "contributing.md": contributing, "changelog.md": changelog, "keys.md": keys, "results.md": results,
    **{f"api/{title.lower().replace(' ', '-')}.md": partial(api, title) for title in API},
}  # fmt: skip


def on_files(files: Any, config: Any) -> Any:
    """mkdocs asks which files there are."""
    from mkdocs.structure.files import File

    for name, make in PAGES.items():
        files.append(File.generated(config, name, content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """mkdocs shows a page before it becomes HTML: links to files that are no pages become their names."""
    return _inside(markdown) if page.file.src_uri not in PAGES else markdown


def _inside(text: str) -> str:
    """Links to the repository's own pages lead to those of the site; to files that are no pages, they become their names."""
    text = text.replace("](CONTRIBUTING.md)", "](contributing.md)").replace(
        "](CHANGELOG.md)", "](changelog.md)"
    )
    return re.sub(
        r"\[([^\]]+)\]\((?:\.\./)*(?:benchmarks|configs|scripts|tests|prompts|vidssl|notebooks)/[^)]*\)",
        r"\1",
        text,
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
