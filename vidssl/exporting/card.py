"""The model card of an export: what it is, how it is loaded, what it was measured at, beside which baselines, on what it was trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import yaml

from vidssl.evaluation.metrics import format_score
from vidssl.exporting.formats.form import Format
from vidssl.exporting.history import History

README = "README.md"
UNKNOWN = "unknown"  # as the hub names a licence that nobody stated
_ON_HUB = "from huggingface_hub import snapshot_download\n"


def card(
    name: str,
    record: dict[str, Any],
    form: Format,
    past: History,
    *,
    pretrained: str | None,
    licence: str | None = None,
    words: str | None = None,
    repo: str | None = None,
) -> str:
    """Markdown with the hub's front matter.

    Args:
        name: of the model, the title.
        record: as in `export.json`.
        form: the format it is written in.
        past: of the run.
        pretrained: the weights that training began with.
        licence: as the hub names it (``apache-2.0``); None: not stated.
        words: the author's own, Markdown, for what no file knows: what it is for, and what not.
        repo: of the hub, ``ORG/NAME``; None loads it from a folder.
    """
    front = {
        "license": licence or UNKNOWN,
        "library_name": form.library,
        "tags": ["video", "self-supervised-learning", "feature-extraction", "vidssl"],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {name}",
        *([words.strip()] if words else []),
        _what(record, past),
        f"## How to load it\n\n```python\n{usage(name, record, form, repo)}\n```",
        "\n".join(["## Results", "", *_results(record, past)]),
        "\n".join(["## Training", "", *_training(past, pretrained)]),
        "\n".join(["## Licence", "", *_licence(licence, pretrained, past)]),
    ]
    return "\n\n".join(parts) + "\n"


def usage(name: str, record: dict[str, Any], form: Format, repo: str | None) -> str:
    """At most five lines of Python."""
    place = form.here.format(name=name) if repo is None else form.hub.format(name=repo)
    lines = form.usage.format(place=place, mean=record["input"]["mean"], std=record["input"]["std"])
    return (_ON_HUB if "snapshot_download" in place else "") + lines


def _what(record: dict[str, Any], past: History) -> str:
    shown, check = record["input"], record["check"]
    objectives = ", ".join((past.recipe or {}).get("objective", {}))
    trained = f", trained with {objectives}" if objectives else ""
    lines = [
        f"{record['model']}, `temporal: {record['temporal']}`{trained}; written as `{record['format']}` by vidssl {record['vidssl']}.",
        f"Clips of {shown['frames']} frames at {shown['size']} pixels, RGB in [0, 1], normalised with mean {shown['mean']} and std {shown['std']}.",
        f"Checked against the original on {len(check['clips'])} clips: features differ by at most {max(check['clip'], check['frames']):.1e}, "
        f"of up to {check['largest']:.2g}.",
    ]
    if "left_out" in record:
        lines.append(
            f"What training learned of time (`temporal: {record['left_out']['temporal']}`) is left out: this is its image tower alone."
        )
    if "left_behind" in record:
        lines.append(f"Left behind: {record['left_behind']}.")
    return "\n".join(lines)


def _results(record: dict[str, Any], past: History) -> Iterator[str]:
    if "left_out" in record:
        yield "None: those of the run are of the encoder with what it learned of time."
        return
    if not past.results:
        yield "None were found beside this checkpoint."
    else:
        yield "| protocol | data | encoder or baseline | top-1 [95 % interval] | mean class |"
        yield "|---|---|---|---|---|"
    for result in past.results:
        data = result.get("val") or result.get("data") or {}
        shown = result["sampling"]
        count = shown["clips_per_video"]
        protocol = f"{result['task']}, {count} clip{'s' * (count > 1)} of {shown['frames']} frames"
        named = (
            f"{PurePath(data.get('path', '')).name}, {data.get('videos')} videos, digest {data.get('digest')}"
        )
        if data.get("failed"):
            named += f", {len(data['failed'])} of them unreadable and counted as wrong"
        for who, score in result["scores"].items():
            mean = f"{100 * score['mean_class']:.1f} %" if "mean_class" in score else ""
            yield f"| {protocol} | {named} | {who} | {format_score(score)} | {mean} |"
    if past.others:
        yield f"\nNot listed: {past.others} of other checkpoints of the run."


def _training(past: History, pretrained: str | None) -> Iterator[str]:
    began = f"Began from {pretrained}." if pretrained else "Began from random weights."
    if past.recipe is None:
        yield f"Of no run of vidssl that is kept beside it. {began}"
        return
    data = past.environment.get("data", {})
    yield (
        f"{began} Trained on {data.get('videos', 'an unknown number of')} videos, whose list has the digest "
        f"`{data.get('digest', 'unknown')}`; {past.checkpoint}."
    )
    packages = past.environment.get("packages", {})
    yield (
        f"vidssl {past.environment.get('vidssl')} ({past.environment.get('git_commit')}), torch {packages.get('torch')}, "
        f"{past.environment.get('processes')} process(es) on {past.environment.get('device')}."
    )
    recipe = yaml.safe_dump(past.recipe, sort_keys=False)
    yield f"\n<details><summary>The recipe</summary>\n\n```yaml\n{recipe}```\n\n</details>"


def _licence(licence: str | None, pretrained: str | None, past: History) -> Iterator[str]:
    yield f"Of these weights: {licence or 'not stated'}."
    if pretrained:
        yield f"Training began from {pretrained}, whose licence holds for what came of it as well."
    if past.recipe is not None:
        yield "What the licence of the training videos asks for is not known to the program that wrote this."
