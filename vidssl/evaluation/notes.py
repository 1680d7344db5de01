"""What has to be said under a table of scores: everything without which its numbers would look better than they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import Any

from vidssl.errors import counted
from vidssl.evaluation.comparison import format_comparison
from vidssl.evaluation.published import published_lines

LINES = 20  # of one kind on the screen; the result file has all of them


def result_notes(result: Mapping[str, Any]) -> list[str]:
    """Lines for the screen: how videos were shown, classes, comparisons, and whatever counts against a number."""
    return [
        _sampling(result["sampling"]),
        *(published_lines(result["published"]) if result.get("published") else ()),
        *_classes(result),
        *(format_comparison(name, record) for name, record in result.get("comparisons", {}).items()),
        *result.get("notes", ()),
        *_random(result),
        *_untrained(result),
        *_scores(result.get("scores", {})),
        *_both_splits(result),
        *_videos(result),
    ]


def _sampling(sampling: Mapping[str, Any]) -> str:
    extent = f"over {sampling['seconds']} s" if sampling["seconds"] else "over the whole video"
    if sampling["stride"]:
        extent = f"stride {sampling['stride']}"
    clips = sampling["clips_per_video"]
    return (
        f"{counted(clips, 'clip')} of {sampling['frames']} frames {extent}, "
        f"{sampling['resize']} to {sampling['size']} pixels"
    )


def _classes(result: Mapping[str, Any]) -> Iterator[str]:
    if "cut_texts" in result:
        yield from cut_texts_note(result["cut_texts"])
    if "classes" not in result:
        return
    classes = result["classes"]
    if "templates" in result:
        given = result["templates"]
        preset = f" of {given['preset']}, {given['source']}" if given.get("preset") else ""
        templates = given["list"]
        yield (
            f"classes: {classes['source']}; {counted(len(templates), 'template')} such as {templates[0]!r}{preset} "
            f"(hashes {classes['hash']}, {result['templates']['hash']})"
        )
    if "names" in result:
        yield _names(result["names"])
    total = len(classes["names"])
    if total == 1:
        yield "there is one class: every answer is right, whatever the encoder"
    if classes["unknown"]:
        videos = sum(classes["unknown"].values())
        named = [f"{name} ({count})" for name, count in classes["unknown"].items()]
        yield (
            f"{counted(videos, 'video')} of {counted(len(named), 'class')} that are not among the {total} to choose from, counted as wrong: "
            f"{_first(named)}"
        )
    if classes["unused"]:
        unused = len(classes["unused"])
        yield f"{unused} of {total} classes {_have(unused)} no video in the test: {_first(classes['unused'])}"


def cut_texts_note(cut: Mapping[str, Any]) -> Iterator[str]:
    """A line about texts that are longer than the text tower's context, if there are any."""
    if cut["texts"]:
        yield (
            f"texts that are longer than the {cut['context_length']} tokens of the text tower and were cut: {len(cut['texts'])}, "
            f"such as {shorten(cut['texts'][0], 80)!r}"
        )


def _names(names: Mapping[str, Any]) -> str:
    """How much training knew of the classes' names."""
    if names["setting"] == "unknown":
        return f"class names: whether the vocabulary of training held them is unknown ({names['reason']})"
    if names["vocabulary"] is None:
        return "class names: no vocabulary was used in training (inductive)"
    return (
        f"class names: {names['known']} of {names['classes']} are in the vocabulary of training, "
        f"{names['vocabulary']} ({names['setting']})"
    )


def random_weights(result: Mapping[str, Any]) -> bool:
    """Whether the encoder was named without weights."""
    return bool(result.get("random_weights", False))


def row_title(name: str, result: Mapping[str, Any]) -> str:
    """What a row is called on the screen: of an encoder with random weights ``random weights``, where the file has ``trained`` as always."""
    if name.startswith("trained") and random_weights(result):
        return "random weights" + name.removeprefix("trained")
    return name


def _random(result: Mapping[str, Any]) -> Iterator[str]:
    if random_weights(result):
        yield f"{result['checkpoint']} names no weights: these are random"


def _untrained(result: Mapping[str, Any]) -> Iterator[str]:
    if random_weights(result):
        return
    if "scores" in result and "untrained" not in " ".join(result["scores"]):
        yield "the untrained encoder is not kept beside this checkpoint, so its score is missing"


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, score in scores.items():
        if score.get("not_finite"):
            yield f"{name}: the scores of {counted(score['not_finite'], 'video')} are not finite, counted as wrong"


def _both_splits(result: Mapping[str, Any]) -> Iterator[str]:
    both = result.get("in_both_splits", ())
    if both:
        yield f"{len(both)} of {counted(result['val']['videos'], 'test video')} {_are(len(both))} in the training split too (same content):"
        yield from _capped([f"  {pair['val']} = {pair['train']}" for pair in both])
    alike = result.get("look_alikes", ())
    if alike:
        yield (
            f"{len(alike)} of {counted(result['val']['videos'], 'test video')} {'looks' if len(alike) == 1 else 'look'} like one of the training split (the same moves in the same places: "
            "re-encoded, or of one recording?):"
        )
        yield from _capped([f"  {pair['val']} ~ {pair['train']}" for pair in alike])
    groups = result.get("groups_in_both_splits", ())
    if groups:
        yield f"{counted(len(groups), 'recorded group')} of the test {_are(len(groups))} in the training split too: {_first(groups)}"


def _videos(result: Mapping[str, Any]) -> Iterator[str]:
    for split in ("data", "train", "val"):
        data = result.get(split)
        if data is None:
            continue
        yield from (f"{data['path']}: {remark}" for remark in data.get("remarks", ()))
        if data.get("fewer_clips"):
            clips = result["sampling"]["clips_per_video"]
            fewer = data["fewer_clips"]
            yield f"{counted(fewer, 'video')} of {data['path']} {_are(fewer)} too short for {clips} different clips"
        yield from _capped([f"no label, left out: {path}" for path in data.get("unlabelled", ())])
        fate = "left out of training" if split == "train" else "counted as wrong"
        fate = fate if "scores" in result else "left out"
        yield from _capped([f"{fate}: {x['path']}: {x['reason']}" for x in data["failed"]])


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _first(names: Sequence[str], number: int = 5) -> str:
    return ", ".join(shorten(name, 80) for name in names[:number]) + (", …" if len(names) > number else "")


def _capped(lines: Sequence[str]) -> list[str]:
    more = len(lines) - LINES
    return [*lines[:LINES], *([f"  … and {more} more, in the result file"] if more > 0 else [])]
