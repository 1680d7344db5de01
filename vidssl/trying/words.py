"""What a try found, in a few sentences: what the image model knows, what adaptation added, whether chance can explain it, what next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vidssl.errors import counted
from vidssl.evaluation.metrics import format_score, group_interval
from vidssl.reporting.grouping import Tightness

SAME = 0.01  # of a silhouette: less is no difference
PROTOCOLS = {"linear-probe": "a linear classifier", "knn": "its nearest neighbours"}


def of_accuracies(result: Mapping[str, Any]) -> list[str]:
    """Sentences on a result of the linear probe, or of k-NN, of which the middle k counts."""
    names = [name for name in result["comparisons"] if name.startswith("trained")]
    name = names[len(names) // 2]
    scores, compared = result["scores"], result["comparisons"][name]
    before, after = scores[compared["to"]], scores[name]
    how = PROTOCOLS[result["task"]]
    drawn, frequent = scores["chance"]["top1"], scores["majority class"]["top1"]
    motion = scores.get("motion energy" + name.removeprefix("trained"))
    said = [
        f"Of {counted(after['total'], 'held-out video')} of {counted(len(result['classes']['names']), 'class')} {how} names {format_score(before)} on what the image "
        f"model makes of single frames, and {format_score(after)} after adaptation"
        + ("." if motion is None else f"; on motion energy, which needs no network, {format_score(motion)}.")
        + f" A class drawn at random is right for {100 * drawn:.1f} %, the most frequent class for {100 * frequent:.1f} %."
    ]
    low, high = compared["interval"]
    change = f"{100 * compared['difference']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    if low > 0:
        said.append(f"Adaptation helped: {change}; the interval excludes zero.")
    elif high < 0:
        said.append(
            f"Adaptation did harm: {change}; the interval excludes zero. Keep the image model as it is."
        )
    else:
        said.append(f"No gain is shown: {change}; the interval does not exclude zero.")
    if before["top1_interval"][0] <= max(drawn, frequent):
        better = "the most frequent class" if frequent > drawn else "a class drawn at random"
        said.append(f"The image model itself is not shown to be better than {better}.")
    if motion is not None and motion["top1"] >= after["top1"]:
        said.append(
            "Motion energy alone is as good: what tells these classes apart is not in these features."
        )
    return said


def of_clusters(tight: Mapping[str, Tightness], videos: int) -> list[str]:
    """Sentences on the clusters of the trained and the untrained encoder."""
    if set(tight) != {"trained", "untrained"}:
        return ["Features are not finite for some videos, so that clusters are not compared."]
    before, after = tight["untrained"], tight["trained"]
    low, high = group_interval(torch.from_numpy(after.each - before.each), torch.arange(videos))
    difference = after.mean - before.mean
    said = [
        f"There are no classes to name, so {videos} videos were put into clusters: before, {before.in_words()}; after adaptation, {after.in_words()}."
    ]
    if abs(difference) < SAME:
        said.append("Clusters are as tight after adaptation as before.")
    else:
        excluded = "excludes" if low > 0 or high < 0 else "does not exclude"
        said.append(
            f"Clusters are {'tighter' if difference > 0 else 'looser'} by {abs(difference):.2f} (change {difference:+.2f} [{low:+.2f}, {high:+.2f}] "
            f"over videos, the clusters held); the interval {excluded} zero."
        )
    if np.isclose(after.mean, after.shuffled, atol=0.02) or after.mean < after.shuffled:
        said.append(
            "After adaptation they are no tighter than with the columns shuffled: take them for nothing."
        )
    return [*said, "Tighter is not truer: look at the neighbours and clusters on the page."]


def next_steps(run: str, folder: str, helped: bool) -> str:
    """What to do with it."""
    run, folder = shlex.quote(run), shlex.quote(folder)  # so that the commands can be copied
    if helped:
        return f"Next: `vidssl extract {run} {folder} features.safetensors` takes the features away; more minutes (--minutes) or more videos may add to it."
    return (
        "Next: more videos or minutes (--minutes), another image model (--encoder), or training on pixels where motion decides: "
        f"`vidssl pretrain hsic data.train={folder}`."
    )
