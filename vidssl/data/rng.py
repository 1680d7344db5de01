"""Counter-based randomness: every random number of the data pipeline is a pure function of what it is drawn for.

Philox 4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") is a keyed bijection of a 256-bit
counter. The key holds (seed, purpose) and the upper three counter words hold what the numbers are for, so streams
are disjoint by construction and no state has to be saved, split or restored.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from vidssl.errors import VidsslError


class Purpose(IntEnum):
    """What a stream is used for; part of the key, so that two purposes never share a number."""

    ORDER = 0  # permutation of the videos: (epoch,)
    WINDOW = 1  # which part of the video is decoded: (epoch, index)
    SUBSTITUTE = 2  # which video replaces a broken one: (epoch, index, attempt)
    TIME = 3  # where a view lies inside the window: (epoch, index, view)
    SPACE = 4  # crop, flip, colours and token key of a view: (epoch, index, view)


def stream(seed: int, purpose: Purpose, *words: int) -> np.random.Generator:
    """A generator for (seed, purpose, words); at most three words, each in [0, 2**64).

    Raises:
        VidsslError: if the seed is negative or does not fit in 64 bits.
    """
    if not 0 <= seed < 2**64:
        raise VidsslError(f"seed {seed}: must lie in [0, 2**64)")
    counter = np.zeros(4, dtype=np.uint64)
    # The lowest word counts the blocks drawn so far; a stream would need 2**64 blocks to reach its neighbour.
    counter[1 : 1 + len(words)] = np.array(words, dtype=np.uint64)
    key = np.array([seed, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))
