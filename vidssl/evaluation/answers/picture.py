"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidssl.evaluation.answers.confusion import NO_ANSWER
from vidssl.evaluation.dynamics.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = 60  # classes whose names can be read


def confusion_figure(counts: NDArray[np.int64], names: Sequence[str], title: str) -> Figure:
    """True classes down, answers across, the share of each row's videos from white to black; empty rows stay white.

    Args:
        counts: (R, K + 1) of `confusion_matrix`. names: (R,) of the true classes.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 3.5 + 0.18 * min(len(names), NAMED)
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axes, label="share of the class's videos", fraction=0.046)
    axes.set(xlabel="answered", ylabel="true class")
    axes.set_title(shorten(title, 70), fontsize=9)
    if len(names) <= NAMED:
        shown = [shorten(name, 30, placeholder="…") for name in names]
        columns = [*shown[: counts.shape[1] - 1], NO_ANSWER]
        axes.set_xticks(range(counts.shape[1]), columns, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), shown, fontsize=7)
    return figure
