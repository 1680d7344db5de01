"""`vidssl report`: everything runs and results say, on one page that needs nothing else.

>>> write_report(["runs/first"], "report.html")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import jinja2

from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.evaluation.setup import EvalOptions
from vidssl.files import write_text
from vidssl.reporting import commands, motion, scores
from vidssl.reporting.curves import curves, recipe_text, troubles
from vidssl.reporting.figures import figures_beside
from vidssl.reporting.sources import Material, read_sources
from vidssl.reporting.videos import Gallery, gallery
from vidssl.training.listing import differences
from vidssl.version import __version__

T = TypeVar("T")
# What a result of another form than its task's makes the functions that read it raise.
ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration)


def write_report(
    sources: Sequence[str | Path],
    output: str | Path,
    *,
    videos: str | Path | bool = True,
    title: str | None = None,
    lead: Sequence[str] = (),
    notes: Sequence[str] = (),
    before: str | Path | None = None,
    options: EvalOptions | None = None,
) -> Path:
    """Write the page.

    What there is no data for is left out, and the page says which command would bring it.

    Args:
        sources: run folders (with the results in them), folders of results, and result files.
        output: the HTML file.
        videos: whose neighbours, clusters and patches are shown: a folder or list; True: those of the first result that are
            still there, or else the training videos of the first run; False: none. The encoder is that of the first run, or else
            of the first result.
        title: of the page.
        lead: sentences at its top; between back-quotes stand commands. notes: smaller ones below them.
        before: see `load_subject`; of the encoder that looks at videos.
        options: how videos are shown to the encoder.

    Returns:
        The file.

    Raises:
        VidsslError: for sources that are none, and for `videos` that were named and cannot be shown.
    """
    output = Path(output)
    material = read_sources(sources)
    page: dict[str, Any] = {"missing": [], "broken": list(material.broken), "lead": lead, "notes": notes}
    page["title"] = title or (material.runs[0].folder.name if material.runs else "Results")
    page["summary"], page["blocks"], page["motion"] = _results(material, page)
    page["curves"] = curves(material.runs)
    page["runs"] = [
        {"run": run, "troubles": troubles(run), "recipe": recipe_text(run), "command": commands.of_run(run)}
        for run in material.runs
    ]
    page["differences"] = differences(material.runs) if len(material.runs) > 1 else {}
    page["commands"] = [
        said for _, result in material.results if (said := _tried(commands.of_result, result)) is not None
    ]
    page["environment"] = _environment(material)
    page["gallery"] = _gallery(material, videos, options, before, page)
    _say_missing(material, page)
    write_text(output, render(page))
    return output


def render(page: Mapping[str, Any]) -> str:
    """The page as HTML. Every text is escaped, but for what is `Markup` already."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("vidssl.reporting", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    # A path may hold bytes that are no text; they would stop the writing of the whole page.
    html = found.get_template("page.html").render(**page, style=style(), version=__version__, made=made)
    return html.encode("utf-8", errors="replace").decode()


def style() -> str:
    """The style of the page, and of whatever looks like it."""
    return (Path(__file__).parent / "page" / "style.css").read_text(encoding="utf-8")


def _results(
    material: Material, page: dict[str, Any]
) -> tuple[list[list[str]], list[scores.Block], list[scores.Block]]:
    """Rows of the summary, blocks of results, and blocks of Kalman runs; a result that is odd is named in `page`."""
    rows: list[list[str]] = []
    blocks: list[scores.Block] = []
    moving: list[scores.Block] = []
    several = len({str(result.get("checkpoint")) for _, result in material.results}) > 1
    for file, result in material.results:
        kind = moving if result["task"] == "dynamics" else blocks
        try:
            if result["task"] == "dynamics":
                one = motion.block(file, result)
            elif "scores" in result:
                one = scores.block(file, result)
                rows += scores.summary(result, several) if "metrics" not in result else []
            else:
                one = scores.Block(
                    str(result["task"]), str(file), notes=[str(x) for x in result.get("notes", ())]
                )
                one.charts = figures_beside(file, result)
        except ODD as error:
            page["broken"].append(
                f"{file}: is not as results of {result['task']!r} are ({type(error).__name__}: {error})"
            )
        else:
            kind.append(one)
    return rows, blocks, moving


def _tried(read: Callable[[Mapping[str, Any]], T], result: Mapping[str, Any]) -> T | None:
    try:
        return read(result)
    except ODD:
        return None


def _environment(material: Material) -> dict[str, str]:
    """Versions of the first result; of a run they lie in its environment.json."""
    for _, result in material.results:
        given = result.get("environment")
        if isinstance(given, Mapping):
            packages = given.get("packages")
            flat = {key: value for key, value in given.items() if key != "packages"}
            return {
                key: str(value)
                for key, value in {**flat, **(packages if isinstance(packages, Mapping) else {})}.items()
            }
    return {}


def _gallery(
    material: Material,
    videos: str | Path | bool,
    options: EvalOptions | None,
    before: str | Path | None,
    page: dict[str, Any],
) -> Gallery | None:
    if videos is False:
        page["missing"].append("neighbours, clusters and colours of patches: left out, as asked for")
        return None
    named = videos if videos is not True else None
    encoder = str(material.runs[0].folder) if material.runs else None
    for _, result in material.results:
        encoder = encoder or _tried(lambda one: str(one["checkpoint"]), result)
        path = _tried(scores.data_of, result)
        if named is None and path is not None and _is_there(path):
            named = path
    for run in material.runs:
        path = run.recipe.get("data.train")
        if named is None and isinstance(path, str) and _is_there(path):
            named = path
    try:
        if encoder is None or named is None:
            raise VidsslError("no videos of these results are there any more; name some with --videos")
        return gallery(encoder, named, options, before)
    except VidsslError as error:
        if videos is not True:
            raise
        page["missing"].append(f"neighbours, clusters and colours of patches: {error}")
        return None


def _is_there(path: str) -> bool:
    try:
        return len(VideoIndex.read(path, "skip")) > 1
    except (VidsslError, OSError, ValueError):
        return False


def _say_missing(material: Material, page: dict[str, Any]) -> None:
    """What is not on the page, and the command that would bring it."""
    run = material.runs[0].folder if material.runs else "RUN"
    said = page["missing"]
    if not page["curves"]:
        said.append("curves: no run with a log is among the sources")
    if not page["summary"]:
        said.append(f"accuracies: vidssl linear-probe {run} TRAIN VAL, vidssl knn {run} TRAIN VAL")
    if not any("answers" in result for _, result in material.results) and page["summary"]:
        said.append(
            "confusion matrix: the results were written by a version that did not keep it; measure again"
        )
    kinds = [
        str(value) for one in material.runs for key, value in one.recipe.items() if key.endswith(".objective")
    ]
    kalman = [key for one in material.runs for key in one.recipe if key.startswith("objective.ldm")]
    if (kalman or "ldm" in kinds) and not page["motion"]:
        said.append(f"forecasts and eigenvalues: vidssl dynamics {run} VIDEOS")
