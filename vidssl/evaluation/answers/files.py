"""The files beside a result: a table of its classes, the confusion matrix, the answer to each video, and a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidssl.evaluation.answers.confusion import NO_ANSWER, class_rows, confusion_matrix, names_of
from vidssl.evaluation.answers.picture import confusion_figure
from vidssl.files import whole_file, write_text

DPI = 130


def write_answers(file: Path, result: Mapping[str, Any], row: str = "trained") -> list[Path]:
    """Write what a result says of single classes and videos beside its file.

    Args:
        file: of the result, ``x.json``. Beside it: ``x.classes.csv``, ``x.confusion.csv`` and, with matplotlib,
            ``x.confusion.png`` of one `row` of the table, and ``x.videos.csv`` of all. Of three splits these are of each.
        result: with `answers`; of another, nothing is written.

    Returns:
        The files.
    """
    if "splits" in result:
        parts = enumerate(result["splits"], 1)
        return [
            one
            for number, part in parts
            for one in write_answers(file.with_suffix(f".split{number}.json"), part, row)
        ]
    answers = result.get("answers", {})
    if row not in answers.get("answered", {}):
        return []
    classes = result["classes"]["names"]
    names = names_of(result["classes"])
    counts = confusion_matrix(answers["truth"], answers["answered"][row], len(classes))
    rows = class_rows(counts, names)
    made = [
        _csv(file.with_suffix(".classes.csv"), rows[0]._fields, rows),
        _csv(
            file.with_suffix(".confusion.csv"),
            ("class", *classes, NO_ANSWER),
            ([name, *line] for name, line in zip(names, counts.tolist(), strict=True)),
        ),
        _csv(
            file.with_suffix(".videos.csv"), ("video", "class", *answers["answered"]), _videos(answers, names)
        ),
    ]
    if find_spec("matplotlib") is not None:
        made.append(file.with_suffix(".confusion.png"))
        with whole_file(made[-1]) as partial:
            confusion_figure(counts, names, f"{row}: {result['checkpoint']}").savefig(
                partial, dpi=DPI, format="png"
            )
    return made


def _videos(answers: Mapping[str, Any], names: Sequence[str]) -> Iterable[Sequence[Any]]:
    spelled = [*names, NO_ANSWER]  # -1 is the last
    for place, (video, label) in enumerate(zip(answers["videos"], answers["truth"], strict=True)):
        yield [video, names[label], *(spelled[given[place]] for given in answers["answered"].values())]


def _csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{x:.6g}" if isinstance(x, float) else x for x in row] for row in rows)
    return write_text(file, text.getvalue())
