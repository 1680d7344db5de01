"""The result of `vidssl disentangle` as PNG files: the matrix of mutual information, and the best dimensions of factors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidssl.evaluation.dynamics.plots import DPI, check_matplotlib
from vidssl.evaluation.dynamics.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure
from vidssl.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of the encoder shown less, and of what else stands beside it.
_MARKS = {
    "untrained": ("s", GREY),
    "frame 0 alone": ("v", GREEN),
    "mean of frames": ("D", PURPLE),
    "frames shuffled": ("x", BLACK),
    "labels permuted": ("|", ORANGE),
}


def plot_disentanglement(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the figures into `folder`.

    Args:
        result: of `disentangle`.

    Raises:
        VidsslError: when matplotlib is not installed.
    """
    check_matplotlib()
    files = []
    for name, figure in {"information": information_figure(result), "best": best_figure(result)}.items():
        files.append(folder / f"disentangle_{name}.png")
        with whole_file(files[-1]) as partial:
            figure.savefig(partial, dpi=DPI, format="png")
    return files


def information_figure(result: Mapping[str, Any]) -> Figure:
    """Factors by dimensions, as a share of each factor's entropy; dimensions next to others of the same best factor."""
    names = result["information"]["factors"]
    found = result["rows"]["encoder"]["factors"]
    entropy = np.array([found[name]["entropy"] for name in names])
    share = np.array(result["information"]["nats"]).T / entropy[:, None]
    kinds = [result["factors"][name]["kind"] for name in names]
    rows = sorted(range(len(names)), key=lambda k: kinds[k] != "static")
    share = share[rows]
    best = share.argmax(axis=0)
    order = np.lexsort((-share.max(axis=0), best))
    figure = new_figure(9, 0.8 + 0.3 * len(names))
    axes = figure.add_subplot()
    image = axes.imshow(share[:, order], aspect="auto", cmap="Blues", vmin=0, interpolation="nearest")
    axes.set_yticks(range(len(names)), [f"{names[k]} ({kinds[k]})" for k in rows])
    axes.set_xlabel(
        f"{share.shape[1]} dimensions, in the order of the factor that each says most of ({result['clips']} clips, "
        f"{result['bins']} bins)"
    )
    figure.colorbar(image, ax=axes, label="information / entropy")
    return figure


def best_figure(result: Mapping[str, Any]) -> Figure:
    """For every factor and sign what the best dimension says of it, and what it says where the encoder is shown less."""
    encoder = result["rows"]["encoder"]
    rows = [
        (f"{name} ({result['factors'][name]['kind']})", "factors", name, found["dimension"], found["entropy"])
        for kind in ("static", "motion")
        for name, found in encoder["factors"].items()
        if result["factors"][name]["kind"] == kind
    ]
    rows += [(name, "signs", name, found["dimension"], np.log(2)) for name, found in encoder["signs"].items()]
    figure = new_figure(9, 1.4 + 0.36 * len(rows))
    axes = figure.add_subplot()
    places = np.arange(len(rows))[::-1]
    values = np.array([encoder[part][name]["nats"] for _, part, name, _, _ in rows])
    axes.barh(places, values, height=0.6, color=BLUE, alpha=0.8, label="encoder")
    everything = {**result["rows"], **result["would_say_if"]}
    for title, (mark, colour) in _MARKS.items():
        if title in everything:
            nats = [everything[title][part].get(name, {}).get("nats", np.nan) for _, part, name, _, _ in rows]
            axes.plot(nats, places, linestyle="", marker=mark, color=colour, label=title)
    reach = max(values.max(), 1e-3) * 1.3
    for place, (_, _, _, dimension, entropy) in zip(places, rows, strict=True):
        axes.text(
            reach, place, f"{dimension}; {entropy:.2f}", ha="right", va="center", fontsize=8, color=GREY
        )
    axes.set_xlim(0, reach)
    axes.set_yticks(places, [row[0] for row in rows])
    axes.set_xlabel("nats that the best single dimension says of it (right: which one; the entropy)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False, fontsize=8)
    return figure
