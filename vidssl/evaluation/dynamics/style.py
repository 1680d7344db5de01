"""What all figures share: an empty figure and its colours. matplotlib is optional and imported when one is drawn.

Figures are made by hand, without pyplot and its global state. Colours are those of Okabe & Ito (2008), which people with
any colour vision tell apart; no distinction rests on colour alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, GREY, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8A8A", "#222222"


def new_figure(width: float, height: float) -> Figure:
    """Inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
