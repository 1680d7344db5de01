"""``vidssl concepts …``: the words of action-concept spaces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from vidssl.cli.options import Report

app = typer.Typer(
    name="concepts",
    help="Action concepts: check, convert, count, encode and write them.",
    no_args_is_help=True,
)

Given = Annotated[str, Argument(help="concept file of any format, or data sets such as k400+ucf101")]
Format = Annotated[str | None, Option(help="format of the file (default: found out)")]
Classes = Annotated[Path | None, Option(help="class list of a file that is keyed by index")]
Part = Annotated[str | None, Option("--section", help="data set to take of a file that holds several")]


@app.command()
def validate(
    given: Given,
    format: Format = None,
    classes: Classes = None,
    section: Part = None,
    output: Report = None,
    warnings: Annotated[bool, Option(help="list warnings too")] = True,
) -> None:
    """Check a concept file against every rule; exit code 1 when there are errors."""
    from vidssl.concepts import report

    record = report.validate(given, format=format, classes=classes, section=section)
    for problem in record["problems"]:
        if warnings or problem["severity"] == "error":
            where = f"{problem['concept']}: " if problem["concept"] else ""
            typer.echo(f"{problem['severity']}: {where}{problem['message']} [{problem['rule']}]")
    count = "unreadable" if record["concepts"] is None else f"{record['concepts']} concepts"
    typer.echo(f"{given}: {count}, {record['errors']} errors, {record['warnings']} warnings")
    _write(record, output)
    if record["errors"]:
        raise typer.Exit(1)


@app.command()
def convert(
    given: Given,
    destination: Annotated[Path, Argument(help="file to write")],
    to: Annotated[
        str,
        Option(help="vidssl, cupl, indexed, csv, names, label-map, classind, clip-prompts, clip-benchmark"),
    ] = "vidssl",
    format: Format = None,
    classes: Classes = None,
    section: Part = None,
) -> None:
    """Write a concept file in another project's format, or one of theirs in ours."""
    from vidssl.concepts.formats.write import losses, write_as
    from vidssl.concepts.vocabulary import read_given
    from vidssl.files import require_other_file

    require_other_file(destination, given)
    file, _ = read_given(given, format=format, classes=classes, section=section)
    written = ", ".join(str(path) for path in write_as(file, destination, to))
    lost = losses(file, to)
    left_behind = f"; not carried over: {', '.join(lost)}" if lost else ""
    typer.echo(f"{written}: {len(file)} concepts as {to}{left_behind}")


@app.command()
def stats(
    given: Given, format: Format = None, classes: Classes = None, section: Part = None, output: Report = None
) -> None:
    """Count concepts, sentences, words and attributes."""
    from vidssl.concepts import report

    record = report.stats(given, format=format, classes=classes, section=section)
    for key, value in record.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {number}" for name, number in value.items())
        typer.echo(f"{key.replace('_', ' '):26} {value}")
    _write(record, output)


@app.command()
def build(
    given: Given,
    encoder: Annotated[
        str,
        Argument(
            help="encoder with a text tower: open_clip architecture, local-dir:, hf-hub:, run or export"
        ),
    ],
    pretrained: Annotated[str | None, Option(help="weights of an open_clip architecture")] = None,
    templates: Annotated[str | None, Option(help="preset, or a template with {}")] = None,
    whiten: Annotated[str, Option(help="none, center or zca")] = "none",
    merge_threshold: Annotated[float | None, Option(help="merge concepts closer than this cosine")] = None,
    attributes: Annotated[
        list[str], Option(help="kind of attributes to encode too: objects, scene, body_parts, motion, phases")
    ] = [],  # noqa: B006
    device: Annotated[str | None, Option(help="where to encode")] = None,
    output: Report = None,
) -> None:
    """Encode names, descriptions and attributes into a concept space, once for the same words and encoder."""
    from vidssl.concepts.build import cached_space
    from vidssl.concepts.vocabulary import load_concepts
    from vidssl.devices import find_device
    from vidssl.models.load import load_text_tower
    from vidssl.progress import progress_bar

    concepts = load_concepts(given, templates)
    place = None if device is None else find_device(device)
    tower = load_text_tower(encoder, pretrained)
    if place is not None:
        tower.to(place)
    options: Any = {"whiten": whiten, "merge_threshold": merge_threshold, "attributes": attributes}
    with progress_bar("encoding", "text") as progress:
        record = cached_space(concepts, tower, progress=progress, **options).record()
    for problem in record["problems"]:
        typer.echo(f"{problem['severity']}: {problem['concept']}: {problem['message']}")
    for pair in record["near_duplicates"][:10]:
        typer.echo(
            f"near-duplicates ({pair['space']}, cosine {pair['cosine']:.3f}): {pair['first']}, {pair['second']}"
        )
    for kind, count in record["attributes"].items():
        typer.echo(f"attributes: {count} {kind}")
    typer.echo(
        f"cache: {record['concepts']} concepts x {record['dim']}, "
        f"{record['near_duplicate_count']} near-duplicate pairs, {len(record['merged'])} merged, "
        f"encoder {record['encoder'][:12]}, space {record['sha256'][:12]}"
    )
    _write(record, output)


@app.command()
def generate(
    given: Given,
    destination: Annotated[Path, Argument(help="concept file to write")],
    backend: Annotated[Literal["transformers", "openai", "file"], Option(help="who is asked")],
    model: Annotated[
        str | None, Option(help="folder or id (transformers), name on the server (openai)")
    ] = None,
    base_url: Annotated[str | None, Option(help="of a server, such as http://127.0.0.1:8000/v1")] = None,
    api_key_env: Annotated[str | None, Option(help="NAME of the environment variable with the key")] = None,
    requests: Annotated[Path | None, Option(help="file of open questions (backend file)")] = None,
    answers: Annotated[list[Path] | None, Option(help="files with answers (backend file)")] = None,
    what: Annotated[list[str], Option(help="descriptions, attributes")] = ["descriptions"],  # noqa: B006
    count: Annotated[int, Option(min=4, max=20, help="sentences of a concept")] = 4,
    attempts: Annotated[int, Option(min=1, help="answers judged for one concept")] = 3,
    temperature: Annotated[float, Option(min=0, max=10, help="of sampling; 0 is greedy")] = 0.7,
    max_new_tokens: Annotated[int, Option(min=1, help="longest answer")] = 300,
    seed: Annotated[int, Option(min=0, help="of sampling")] = 0,
    timeout: Annotated[float | None, Option(min=0.1, help="seconds for one attempt (openai)")] = None,
    concurrency: Annotated[int | None, Option(min=1, help="requests under way at a time (openai)")] = None,
    device: Annotated[str | None, Option(help="such as cuda:1 (transformers)")] = None,
    store: Annotated[
        Path | None,
        Option(help="every answer, kept for the next run (default: beside the concept file)"),
    ] = None,
    license: Annotated[str | None, Option(help="of the new sentences")] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="print the prompts and an estimate; ask nothing")
    ] = False,
) -> None:
    """Have a language model write descriptions and attributes; exit code 1 when some concepts got none."""
    from vidssl.concepts.generate import job
    from vidssl.concepts.generate.asking import first_requests
    from vidssl.concepts.prompts import Sampling, write_concepts
    from vidssl.concepts.vocabulary import load_concepts
    from vidssl.files import write_json
    from vidssl.progress import progress_bar

    chosen = job.make_backend(
        backend,
        model=model,
        base_url=base_url,
        api_key_env=api_key_env,
        requests=requests,
        answers=answers,
        timeout=timeout,
        max_concurrency=concurrency,
        device=device,
    )
    concepts = load_concepts(given)
    options: Any = {
        "what": what,
        "count": count,
        "sampling": Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed),
    }
    if dry_run:
        planned = first_requests(concepts, chosen, **options)
        letters = 0
        for request in planned:
            typer.echo(f"--- {request.concept.name} ({request.task})")
            for role, text in request.messages:
                typer.echo(f"{role}: {text}")
                letters += len(text)
        longest = max_new_tokens * len(planned)
        typer.echo(f"{len(planned)} requests, about {letters // 4} tokens in, at most {longest} out")
        return
    options |= {"attempts": attempts, "license": license}
    with progress_bar("asking", "request") as progress:
        place = store or destination.with_suffix(".answers.jsonl")
        result = job.generate(concepts, chosen, place, progress=progress, **options)
    for failure in result.failures:
        typer.echo(f"{failure.concept}: {failure.task}: {'; '.join(failure.reasons)}")
    if lost := result.losses(destination):
        typer.echo(f"{destination}: left as it is, with words on {', '.join(lost[:5])} that would be lost")
    else:
        write_concepts(result.concepts, destination)
    write_json(destination.with_suffix(".report.json"), result.record())
    counts = ", ".join(f"{key} {value}" for key, value in result.record().items() if isinstance(value, int))
    typer.echo(f"{destination}: {counts}, failures {len(result.failures)}")
    if result.failures:
        raise typer.Exit(1)


def _write(record: dict[str, Any], output: Path | None) -> None:
    from vidssl.files import write_json

    if output is not None:
        write_json(output, record)
        typer.echo(f"written to {output}")
