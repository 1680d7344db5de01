"""An evaluation over the three official splits of UCF101 and HMDB51: each by itself, then their mean and spread.

``videos#split=test`` stands for test1, test2 and test3 in turn, and ``videos#split=train`` beside it for the training parts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidssl.data.manifest.formats.splits import three_splits
from vidssl.errors import VidsslError
from vidssl.evaluation.notes import result_notes, row_title
from vidssl.evaluation.report import Result
from vidssl.evaluation.results.protocol import sealed

if TYPE_CHECKING:
    from rich.table import Table


def over_splits(measure: Callable[..., Result], *data: str | Path) -> Result:
    """`measure(*data)`; where the data name three splits, the mean over these.

    Returns:
        Its result; of three splits what all have in common, ``splits``, their three results, and ``scores``: of every row `top1`,
        the mean, `std`, the standard deviation of the three (n - 1), `top1_splits`, the three, and the means of `mean_class`,
        `top5` and `calibration_error`.

    Raises:
        VidsslError: when some of the data name three splits and others do not.
    """
    named = [three_splits(one) for one in data]
    whole = next((one for one, three in zip(data, named, strict=True) if three is None), None)
    sets = [three for three in named if three is not None]
    if not sets:
        return sealed(measure(*data))
    if whole is not None:
        raise VidsslError(
            f"{whole}: is one set, but the other stands for three splits; name both by #split=train and #split=test, or one "
            "split of each, such as #split=train1"
        )
    return mean_of_splits([measure(*one) for one in zip(*sets, strict=True)])


def mean_of_splits(results: Sequence[Result]) -> Result:
    """The results of three splits as one, as `over_splits` returns it."""
    results = [sealed(one) for one in results]
    head = ("task", "checkpoint", "loaded", "model", "sampling", "decoder", "environment")
    rows = [name for name in results[0]["scores"] if all(name in one["scores"] for one in results)]
    record = {
        **{key: results[0][key] for key in head if key in results[0]},
        "splits": [{key: value for key, value in one.items() if key != "environment"} for one in results],
        "scores": {name: _mean_score([one["scores"][name] for one in results]) for name in rows},
    }
    return sealed(record)


def _mean_score(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    top1 = [score["top1"] for score in scores]
    found: dict[str, Any] = {
        "top1": statistics.mean(top1), "std": statistics.stdev(top1), "top1_splits": top1,
    }  # fmt: skip
    for key in ("mean_class", "top5", "calibration_error"):
        if all(key in score for score in scores):
            found[key] = statistics.mean(score[key] for score in scores)
    return found


def show_splits(title: str, result: Mapping[str, Any]) -> None:
    """The scores over three splits as a table, then what has to be said of each."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_table_of_splits(title, result))
    for line in _notes_of_splits(result["splits"]):
        console.print(line, markup=False, soft_wrap=True)


def _table_of_splits(title: str, result: Mapping[str, Any]) -> Table:
    """Means and standard deviations over the official splits, and each of them."""
    from rich.table import Table

    numbers = range(1, len(result["splits"]) + 1)
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("top-1, mean ± std", *(f"split {number}" for number in numbers), "mean class", "top-5"):
        table.add_column(column, justify="right")
    for name, score in result["scores"].items():
        each = (f"{100 * value:.1f} %" for value in score["top1_splits"])
        others = (f"{100 * score[key]:.1f} %" if key in score else "" for key in ("mean_class", "top5"))
        table.add_row(
            row_title(name, result["splits"][0]),
            f"{100 * score['top1']:.1f} ± {100 * score['std']:.1f} %",
            *each,
            *others,
        )
    return table


def _notes_of_splits(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The notes that all have, then those of each."""
    notes = [list(result_notes(one)) for one in results]
    shared = [line for line in notes[0] if all(line in others for others in notes)]
    own = [
        f"split {number}: {line}"
        for number, lines in enumerate(notes, 1)
        for line in lines
        if line not in shared
    ]
    return shared + own
