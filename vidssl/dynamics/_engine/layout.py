"""How the state-space functions read their arguments: one precision, one layout, checked values.

The layout is time first. Matrices are (T, b, rows, cols) with b sequences, or b = 1 for what all sequences share.
Vectors are (T, b, rows, k): where the matrices are shared, all sequences are the k columns of one matrix (b = 1), so
that a product is one large one; else k = 1. Either way `matrix @ vector` is the product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch
from einops import rearrange
from torch import Tensor

from vidssl.dynamics._engine.results import StateSpace
from vidssl.errors import VidsslError

# Axes of a model's arguments, n state and m observed dimensions.
CORES = {"A": "nn", "Q": "nn", "C": "mn", "R": "mm", "b": "n", "d": "m", "m0": "n", "P0": "nn"}
# What `check_values` asks of an argument depends on its name.
VECTORS = ("z", "innovation", "m0", "b", "d")
MATRICES = ("A", "C")
COVARIANCES = ("Q", "R", "P0", "innovation_cov")


def in_one_precision(function: str, tensors: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Those of the tensors that are given, in their common dtype, float32 or wider.

    Raises:
        VidsslError: for what is not a tensor, not real, or on another device than the first.
    """
    given = {name: x for name, x in tensors.items() if x is not None}
    dtype, device = torch.float32, None
    for name, x in given.items():
        if not isinstance(x, Tensor):
            raise VidsslError(f"{function}: {name} is of type {type(x).__name__}; it must be a tensor")
        if x.is_complex():
            raise VidsslError(f"{function}: {name} is complex; state-space models are real")
        device = x.device if device is None else device
        if x.device != device:
            raise VidsslError(
                f"{function}: {name} is on {x.device}, the others on {device}; put all on one device"
            )
        dtype = torch.promote_types(dtype, x.dtype)
    return {name: x.to(dtype) for name, x in given.items()}


def compact(x: Tensor, core: int) -> Tensor:
    """`x` without the copies that `expand` pretends: axes of stride 0 before the last `core` get length 1."""
    for axis in range(x.ndim - core):
        if x.shape[axis] > 1 and x.stride(axis) == 0:
            x = x.narrow(axis, 0, 1)
    return x


def symmetric(x: Tensor) -> Tensor:
    return 0.5 * (x + x.mT)


def sequences(*matrices: Tensor) -> int:
    """b of the product of matrices ([T,] b, r, c), each with b = 1 or that; `torch.broadcast_shapes` is slow."""
    return next((x.shape[-3] for x in matrices if x.shape[-3] != 1), 1)


def shared(*matrices: Tensor) -> bool:
    """Whether none of the matrices (…, t, r, c) has batch axes: then one serves all sequences."""
    return all(math.prod(x.shape[:-3]) == 1 for x in matrices)


class Layout:
    """Collects shapes, then lays tensors out time first.

    Args:
        function: name in error messages.
        steps: T.
        batch: batch axes known so far, those of argument `of`.
    """

    def __init__(self, function: str, steps: int, batch: Sequence[int] = (), of: str = "z") -> None:
        self.function, self.steps = function, steps
        self.batches: dict[str, tuple[int, ...]] = {of: tuple(batch)}

    def read(self, given: dict[str, Tensor], n: int, m: int, fixed: Sequence[str] = ("m0", "P0")) -> None:
        """Replaces those of a model's arguments that are given by what `check` makes of them; `fixed` have no time."""
        sizes = {"n": n, "m": m}
        for name, axes in CORES.items():
            if name in given:
                core = tuple(sizes[axis] for axis in axes)
                given[name] = self.check(name, given[name], core, name not in fixed)

    def check(self, name: str, x: Tensor, core: tuple[int, ...], over_time: bool = True) -> Tensor:
        """Checks (*core) or (…, T, *core), or (…, *core) of one moment; returns it with a time axis, of length 1 where constant."""
        k, steps = len(core), self.steps
        timed = over_time and x.ndim > k
        if tuple(x.shape[-k:]) != core or (timed and x.shape[-k - 1] not in (1, steps)):
            shape = ", ".join(map(str, core))
            alone, kind = (f"({shape},)", "vector") if k == 1 else (f"({shape})", "matrix")
            others = f" and (…, {shape})"
            if over_time:
                others = f", ({steps}, {shape}) and (…, {steps}, {shape}), time right before the {kind} axes"
            given = f"{self.function}: {name} has shape {tuple(x.shape)}"
            raise VidsslError(f"{given}; allowed are {alone}{others}")
        self.batches[name] = tuple(x.shape[: x.ndim - k - timed])
        return compact(x if timed else x.unsqueeze(-k - 1), k)

    @cached_property
    def batch(self) -> tuple[int, ...]:
        """The batch axes of the result; to be asked for when all arguments have been read.

        Raises:
            VidsslError: when those of the arguments do not fit together.
        """
        try:
            return tuple(torch.broadcast_shapes(*self.batches.values()))
        except RuntimeError:
            found = ", ".join(f"{name} {shape}" for name, shape in self.batches.items() if shape)
            raise VidsslError(f"{self.function}: batch axes do not fit together: {found}") from None

    @cached_property
    def size(self) -> int:
        """B, the number of sequences."""
        return math.prod(self.batch)

    def model(
        self, x: Mapping[str, Tensor], columns: bool, moves: int | None = None, priors: int = 1
    ) -> StateSpace:
        """All arguments of a model: `moves` transitions (None: T) and `priors` steps of m0 and P0; see `vectors` for `columns`."""
        return StateSpace(
            self.matrices(x["A"], moves),
            self.matrices(x["Q"], moves),
            self.matrices(x["C"]),
            self.matrices(x["R"]),
            self.vectors(x["m0"], columns, priors),
            self.matrices(x["P0"], priors),
            self.vectors(x["b"], columns, moves) if "b" in x else None,
            self.vectors(x["d"], columns) if "d" in x else None,
        )

    def matrices(self, x: Tensor, steps: int | None = None) -> Tensor:
        """(…, t, r, c) to (T, b, r, c): b = 1 without batch axes; t = 1 is spread over T without a copy."""
        rows = self._rows(x, 2).transpose(0, 1)
        return rows.expand(self.steps if steps is None else steps, *rows.shape[1:])

    def vectors(self, x: Tensor, columns: bool, steps: int | None = None) -> Tensor:
        """(…, t, r) to (T, 1, r, k) if `columns`, else to (T, b, r, 1)."""
        rows = self._rows(x, 1)
        if columns:
            laid = rearrange(rows, "k t r -> t 1 r k").contiguous()
        else:
            laid = rearrange(rows, "b t r -> t b r 1")
        return laid.expand(self.steps if steps is None else steps, *laid.shape[1:])

    def _rows(self, x: Tensor, core: int) -> Tensor:
        """(…, t, *core) with all batch axes in one; of length 1 where there are none."""
        tail = x.shape[-core - 1 :]
        if math.prod(x.shape[: -core - 1]) == 1:
            return x.reshape(1, *tail)
        return x.expand(*self.batch, *tail).reshape(self.size, *tail)

    @torch.no_grad()
    def check_values(self, given: Mapping[str, Tensor]) -> None:
        """Finite numbers; covariances symmetric and positive semi-definite, R definite.

        Tensors are (…, t, *core); other names than those of the lists above are passed over. One synchronisation when all is
        well.

        Raises:
            VidsslError: naming the tensor, the step and the sequence.
        """
        cores = {**dict.fromkeys(VECTORS, 1), **dict.fromkeys((*MATRICES, *COVARIANCES), 2)}
        numbers = [(name, given[name], core) for name, core in cores.items() if name in given]
        bad = {
            (name, what): flags
            for name in COVARIANCES
            if name in given
            for what, flags in _defects(given[name], name == "R")
        }
        # 0 · sum is 0 unless an entry, or at worst only the sum, is infinite or undefined.
        suspicious = [0 * x.sum() for _, x, _ in numbers]
        suspicious += [flags.any().to(suspicious[0].dtype) for flags in bad.values()]
        if bool((torch.stack(suspicious) == 0).all()):
            return
        for name, x, core in numbers:
            infinite = ~torch.isfinite(x).flatten(-core).all(-1)
            if bool(infinite.any()):
                raise VidsslError(
                    f"{self.function}: {name}{where(infinite)} has an infinite or undefined entry"
                )
        for (name, what), flags in bad.items():
            if bool(flags.any()):
                raise VidsslError(f"{self.function}: {name}{where(flags)} is not {what}")

    def matrices_back(self, x: Tensor) -> Tensor:
        """(T, b, r, c) to (*batch, T, r, c), a view; what is shared is expanded."""
        return self._unflatten(rearrange(x, "t b r c -> b t r c"))

    def vectors_back(self, x: Tensor) -> Tensor:
        """(T, b, r, k) to (*batch, T, r), a view."""
        return self._unflatten(rearrange(x, "t b r k -> (b k) t r"))

    def where(self, flags: Tensor) -> str:
        """The step, and the sequence unless all share it, of the first True of flags (T, b)."""
        if flags.shape[1] == 1:
            return where(flags[:, 0])
        return where(self.vectors_back(flags[:, :, None, None])[..., 0])

    def _unflatten(self, x: Tensor) -> Tensor:
        return x.expand(self.size, *x.shape[1:]).unflatten(0, self.batch) if self.batch else x[0]


def _defects(x: Tensor, definite: bool) -> Iterator[tuple[str, Tensor]]:
    """What a covariance should be, and where (…, t) it is not."""
    eps, size = torch.finfo(x.dtype).eps, x.shape[-1]
    scale = x.abs().amax((-1, -2), keepdim=True)
    yield "symmetric", ((x - x.mT).abs() > math.sqrt(eps) * scale).flatten(-2).any(-1)
    if definite:
        yield "positive definite", torch.linalg.cholesky_ex(x)[1] != 0
    else:
        # Rounding can push a zero eigenvalue this far down.
        slack = 10 * size * eps * scale + math.sqrt(torch.finfo(x.dtype).tiny)
        lifted = x + slack * torch.eye(size, dtype=x.dtype, device=x.device)
        yield "positive semi-definite", torch.linalg.cholesky_ex(lifted)[1] != 0


def where(flags: Tensor) -> str:
    """`` at step 3 of sequence 5`` for the first True of flags (…, t); axes of length 1 go without saying."""
    index = flags.nonzero()[0].tolist()
    *sequence, step = [i if length > 1 else None for i, length in zip(index, flags.shape, strict=True)]
    text = "" if step is None else f" at step {step}"
    shown = [i for i in sequence if i is not None]
    if shown:
        text += f" of sequence {shown[0] if len(shown) == 1 else tuple(shown)}"
    return text
