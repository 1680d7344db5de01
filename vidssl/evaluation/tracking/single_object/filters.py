"""Two ways to find in a map of features what was seen in another, without learning: correlation, and a ridge regression.

`correlation_response` compares features as they are (SiamFC: Bertinetto et al. 2016, arXiv 1606.09549). `CorrelationFilter`
solves for the filter that answers with a narrow peak at the object (DCF: Henriques et al. 2015, arXiv 1404.7584, with the
linear kernel and one ridge for all channels, as DCFNet, Wang et al. 2017, arXiv 1704.04057). Constants are those with which
UniTrack asks any encoder (Wang et al. 2021, arXiv 2107.02156).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vidssl.errors import VidsslError

# Width of the label that the filter learns to answer with, in sizes of the object.
LABEL_WIDTH = 0.1
# Of a plain correlation, which leaves its peak where it is.
CORRELATION_SCALE = 0.1


def centre_block(size: int, padding: float = 3.5) -> slice:
    """The cells of a map of `size` cells that show the object itself, in an (1 + padding) times larger window: 14 of 65.

    Raises:
        VidsslError: if there is none.
    """
    half = int(size // (2 * (padding + 1)))
    if half < 1:
        raise VidsslError(
            f"features of {size} x {size} cells: must be at least {int(2 * (padding + 1))}, or the object fills no cell; "
            "take a larger crop or a finer stride"
        )
    return slice(size // 2 - half, size // 2 + half)


def hann(size: int, like: Tensor) -> Tensor:
    """(size, size), 1 in the middle and 0 at the border, of the dtype and on the device of `like`."""
    line = torch.hann_window(size, periodic=False, dtype=like.dtype, device=like.device)
    return line[:, None] * line


def correlation_response(template: Tensor, search: Tensor) -> Tensor:
    """Inner product of the template with every place of the search map, under a Hann window, times 0.1.

    Args:
        template: (D, t, t), the centre block of the first frame's features; neither windowed nor normalised.
        search: (D, s, s), s >= t, not windowed.

    Returns:
        (s - t + 1, s - t + 1); an object at rest is where its block was cut.
    """
    windowed = search * hann(search.shape[-1], search)
    return CORRELATION_SCALE * functional.conv2d(windowed[None], template[None])[0, 0]


class CorrelationFilter:
    """A filter in the Fourier domain that answers with a Gaussian peak where the object is.

    Args:
        size: s of the maps (D, s, s) that it takes.
        regularisation: ridge, added to the power of the object's features.
        padding: the maps show a window (1 + padding) times as large as the object.
        legacy: give the response back as the reference does, whose inverse transform takes an odd number of columns for the
            even one below it.

    Raises:
        VidsslError: if the object fills no cell.
    """

    def __init__(
        self, size: int, regularisation: float = 1e-4, padding: float = 3.5, legacy: bool = False
    ) -> None:
        self.size, self.regularisation = size, regularisation
        self._block = centre_block(size, padding)
        self._columns = 2 * (size // 2) if legacy else size
        offset = torch.fft.fftfreq(
            size, 1 / size, dtype=torch.float64
        )  # 0, 1, ..., -2, -1: distances wrap round
        width = size / (1 + padding) * LABEL_WIDTH
        self._label = torch.fft.rfft2(torch.exp(-(offset[:, None] ** 2 + offset**2) / (2 * width**2)))
        self._object: Tensor | None = None  # spectrum of the object's features, (D, s, s // 2 + 1)
        self._weight: Tensor | None = None  # spectrum of the regression's dual, (s, s // 2 + 1)

    def update(self, features: Tensor, rate: float) -> None:
        """Move the filter towards the one of these features.

        Args:
            features: (D, s, s) of a window centred on the object, not windowed; all but the centre block is ignored.
            rate: in [0, 1]; 1 forgets what was before, as the first update must.
        """
        if self._object is None and rate != 1:
            raise VidsslError(f"rate={rate}: must be 1 in the first update")
        block = torch.zeros_like(features)
        block[:, self._block, self._block] = features[:, self._block, self._block]
        seen = torch.fft.rfft2(block)
        weight = self._label.to(seen) / (seen.abs().square().sum(0) + self.regularisation)
        if self._object is None or self._weight is None:
            self._object, self._weight = seen, weight
        else:
            self._object = (1 - rate) * self._object + rate * seen
            self._weight = (1 - rate) * self._weight + rate * weight

    def response(self, features: Tensor) -> Tensor:
        """Where in these features the object is.

        Args:
            features: (D, s, s), not windowed (a Hann window is applied here).

        Returns:
            (s, s), real; its peak is the displacement in cells (rows, columns), which wraps round: (0, 0) for an object at
            rest, s - 1 for one cell up or to the left. Legacy: (s, s - 1) where s is odd.

        Raises:
            VidsslError: before the first update.
        """
        if self._object is None or self._weight is None:
            raise VidsslError("the filter has seen no object: update it first")
        found = torch.fft.rfft2(features * hann(self.size, features))
        spectrum = (found * self._object.conj()).sum(0) * self._weight
        answer: Tensor = torch.fft.irfft2(spectrum, s=(self.size, self._columns))
        return answer
