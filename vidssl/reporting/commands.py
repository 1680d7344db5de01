"""How to reproduce: the commands that runs and results came from, as a person would type them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from vidssl.runs import CONFIG
from vidssl.training.listing import RunRecord

TWO_SETS = ("linear-probe", "attentive-probe", "knn", "finetune")


def of_run(run: RunRecord) -> str:
    """Trains the same again, into another folder."""
    return shlex.join(
        ["vidssl", "pretrain", str(run.folder / CONFIG), f"output={run.folder.with_name(run.folder.name + '-again')}"]
    )  # fmt: skip


def of_result(result: Mapping[str, Any]) -> str:
    """The evaluation, with how videos were shown; of options that a result does not keep nothing is said.

    Raises:
        KeyError, TypeError, AttributeError: for a result of another form.
    """
    task, sampling = str(result["task"]), result.get("sampling") or {}
    if task.startswith("track-"):
        words = ["track", result["checkpoint"], result["data"]["path"], "--task", task.removeprefix("track-")]
        return shlex.join(["vidssl", *map(str, words)])
    sets = [result["train"]["path"], result["val"]["path"]] if task in TWO_SETS and "train" in result else []
    sets = sets or [result["data"]["path"]] * ("path" in (result.get("data") or {}))
    words = ["vidssl", task, result["checkpoint"], *sets]
    for number in result.get("k", ()) if task == "knn" else ():
        words += ["--k", number]
    if task == "dynamics":
        words += ["--frames", sampling["frames"]]
    elif "clips_per_video" in sampling:
        words += ["--frames", sampling["frames"], "--clips", sampling["clips_per_video"]]
        words += (
            ["--stride", sampling["stride"]]
            if sampling["stride"]
            else ["--seconds", sampling["seconds"] or 0]
        )
        words += ["--size", sampling["size"], "--resize", sampling["resize"], "--crops", sampling["crops"]]
    return shlex.join(map(str, words))
