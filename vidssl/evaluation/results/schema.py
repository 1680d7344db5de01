"""The JSON schema of every result file, and reading one that may come from anywhere.

`vidssl config schema --result knn` prints that of a task. A result names its own in ``schema``, such as ``knn/1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vidssl.errors import VidsslError, check_choice, did_you_mean
from vidssl.evaluation.results.agreement import contradiction
from vidssl.evaluation.results.forms import RESULTS, OverSplits
from vidssl.evaluation.results.protocol import VERSION
from vidssl.files import read_json

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SEVERAL = ("zero-shot", "linear-probe", "knn")  # may be over several splits


def result_schema(kind: str) -> dict[str, Any]:
    """The JSON schema of the results of a kind, a key of `RESULTS`.

    Raises:
        VidsslError: for another kind.
    """
    check_choice("result", kind, RESULTS)
    schema = TypeAdapter(_form(kind)).json_schema()
    return {"$schema": DIALECT, "$id": f"https://vidssl/schemas/results/{kind}/{VERSION}", **schema}


def read_result(file: str | Path) -> dict[str, Any]:
    """A result from a file.

    Raises:
        VidsslError: for one that is no result, of another version, not of its form, or that contradicts itself, naming what is wrong first.
    """
    result = read_json(Path(file))
    if wrong := mistake(result):
        raise VidsslError(f"{file}: {wrong}")
    return result


def mistake(result: Mapping[str, Any]) -> str | None:
    """What is wrong first with a result, in words; None where nothing is."""
    kind, _, version = str(result.get("schema", "")).partition("/")
    if kind not in RESULTS:
        guess = did_you_mean(kind, RESULTS) if kind else ""
        return f"schema: {result.get('schema')!r} is no result of vidssl{guess} (known: {', '.join(RESULTS)})"
    if version != str(VERSION):
        return f"schema: {result['schema']!r}: this version reads {kind}/{VERSION}; measure it again"
    try:
        TypeAdapter(_form(kind)).validate_python(result)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    try:
        return contradiction(result)
    except (LookupError, TypeError, ValueError) as error:
        return f"answers do not fit its scores: {error}"


def _form(kind: str) -> Any:
    return RESULTS[kind] | OverSplits if kind in SEVERAL else RESULTS[kind]
