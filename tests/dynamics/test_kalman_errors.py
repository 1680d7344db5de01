"""What is wrong is named: the argument, the step, the sequence."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from vidssl.dynamics.forecast import multi_step
from vidssl.dynamics.kalman import (
    StateSpace,
    forecast,
    innovation_log_likelihood,
    kalman_filter,
    rts_smoother,
)
from vidssl.errors import VidsslError

SEQUENCES, STEPS, N, M = 3, 5, 2, 2


def arguments(**changes: object) -> dict[str, object]:
    plain = {
        "z": torch.zeros(SEQUENCES, STEPS, M),
        "A": torch.eye(N),
        "Q": torch.eye(N),
        "C": torch.eye(M, N),
        "R": torch.eye(M),
        "m0": torch.zeros(N),
        "P0": torch.eye(N),
    }
    return plain | changes


def spread(x: Tensor, index: tuple[int, ...], value: Tensor) -> Tensor:
    """`x` at every step of every sequence, but `value` at one."""
    many = x.expand(SEQUENCES, STEPS, *x.shape).clone()
    many[index] = value
    return many


EYE = torch.eye(2)
LOPSIDED = torch.tensor([[1.0, 0.3], [0.0, 1.0]])
INDEFINITE = torch.tensor([[1.0, 2.0], [2.0, 1.0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A": torch.ones(2, 3)}, r"A has shape \(2, 3\); it must end in \(n, n\)"),
        ({"A": torch.ones(4, 2, 2)}, r"A has shape \(4, 2, 2\); allowed are \(2, 2\), \(5, 2, 2\) and \(…, 5, 2, 2\)"),
        ({"Q": torch.eye(3)}, r"Q has shape \(3, 3\); allowed are \(2, 2\), \(5, 2, 2\) and"),
        ({"R": torch.ones(2)}, r"R has shape \(2,\); allowed are \(2, 2\)"),
        ({"C": torch.eye(3, 2)}, r"C has shape \(3, 2\); allowed are \(2, 2\)"),
        ({"b": torch.ones(3)}, r"b has shape \(3,\); allowed are \(2,\), \(5, 2\) and .* vector axes"),
        ({"m0": torch.ones(3)}, r"m0 has shape \(3,\); allowed are \(2,\) and \(…, 2\)"),
        ({"P0": torch.ones(3)}, r"P0 has shape \(3,\); allowed are \(2, 2\) and"),
        ({"z": torch.zeros(4)}, r"z has shape \(4,\); it must be \(…, T, m\)"),
        ({"z": torch.zeros(3, 0, 2)}, "T of at least 1"),
        ({"A": torch.ones(2, 5, 2, 2)}, r"batch axes do not fit together: z \(3,\), A \(2,\)"),
        ({"m0": torch.ones(4, 2)}, r"do not fit together: z \(3,\), m0 \(4,\)"),
        ({"mask": torch.ones(3, 5, dtype=torch.bool)}, r"mask has shape \(3, 5\).*last axis of length 1"),
        ({"mask": torch.ones(4, 5, 2, dtype=torch.bool)}, r"mask has shape \(4, 5, 2\); it must be broadcastable to \(3, 5, 2\)"),
        ({"mask": torch.ones(5, 2)}, "mask is torch.float32; it must be bool"),
        ({"Q": np.eye(2)}, "Q is of type ndarray; it must be a tensor"),
        ({"z": [[0.0, 1.0]]}, "z is of type list; it must be a tensor"),
        ({"Q": torch.eye(2) * 1j}, "Q is complex"),
        ({"P0": torch.eye(2, device="meta")}, "P0 is on meta, the others on cpu"),
        ({"method": "josef"}, "unknown method 'josef'; did you mean 'joseph'"),
        ({"z": torch.zeros(3, 5, 2).index_put((torch.tensor(1), torch.tensor(3)), torch.tensor(math.inf))}, "z at step 3 of sequence 1 has an infinite"),
        ({"A": spread(EYE, (2, 4), EYE * math.nan)}, "A at step 4 of sequence 2 has an infinite or undefined entry"),
        ({"C": torch.full((2, 2), math.inf)}, "C has an infinite"),
        ({"Q": spread(EYE, (0, 3), LOPSIDED)}, "Q at step 3 of sequence 0 is not symmetric"),
        ({"Q": EYE * math.nan}, "Q has an infinite or undefined entry"),
        ({"Q": spread(EYE, (0, 0), INDEFINITE)[0]}, "Q at step 0 is not positive semi-definite"),
        ({"R": spread(EYE, (1, 2), INDEFINITE)}, "R at step 2 of sequence 1 is not positive definite"),
        ({"R": torch.diag(torch.tensor([1.0, 0.0]))}, "R is not positive definite"),
        ({"P0": spread(EYE, (2, 0), INDEFINITE)[:, 0]}, "P0 of sequence 2 is not positive semi-definite"),
        ({"P0": LOPSIDED}, "P0 is not symmetric"),
        ({"m0": torch.tensor([0.0, math.nan])}, "m0 has an infinite"),
        ({"d": torch.tensor([0.0, math.inf])}, "d has an infinite"),
    ],
)  # fmt: skip
def test_the_filter_names_what_is_wrong(changes: dict[str, object], message: str) -> None:
    kalman_filter(**arguments())  # type: ignore[arg-type]
    with pytest.raises(VidsslError, match=f"^kalman_filter: .*{message}"):
        kalman_filter(**arguments(**changes))  # type: ignore[arg-type]


def test_sequences_of_several_batch_axes_are_named_by_their_index() -> None:
    R = EYE.expand(2, 3, STEPS, 2, 2).clone()
    R[1, 2, 4] = INDEFINITE
    with pytest.raises(VidsslError, match=r"R at step 4 of sequence \(1, 2\) is not positive definite"):
        kalman_filter(**arguments(z=torch.zeros(2, 3, STEPS, M), R=R))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["joseph", "scan"])
def test_an_innovation_covariance_without_a_factor_is_named(method: str) -> None:
    """Two sensors of one state whose noise is lost in its variance, from step 2 on, where it is seen in sequence 1.

    At step 2 the two columns differ by rounding alone, which another library may round the other way.
    """
    C = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    given = arguments(
        C=C, Q=torch.diag(torch.tensor([2.0**30, 1.0])), P0=0 * EYE, R=1e-2 * EYE, predict_first=True
    )
    mask = torch.ones(SEQUENCES, STEPS, M, dtype=torch.bool)
    with pytest.raises(
        VidsslError, match=r"innovation covariance at step 0 is not positive definite in torch\.float32"
    ):
        kalman_filter(**given, method=method)  # type: ignore[arg-type]
    mask[:, :2] = False
    mask[0], mask[2, 2:4, 0] = False, False
    with pytest.raises(
        VidsslError, match=r"innovation covariance at step [23] of sequence 1 is not positive definite"
    ):
        kalman_filter(**given, mask=mask, method=method)  # type: ignore[arg-type]
    kalman_filter(**given, mask=mask, method="sqrt")  # type: ignore[arg-type]


def test_rounding_is_no_error() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(8, 3, generator=generator)
    singular = root @ root.mT
    noise = torch.randn(8, 8, generator=generator)
    noise = noise @ noise.mT
    noise[0, 1] += 1e-6 * noise.abs().max()
    result = kalman_filter(
        torch.zeros(4, 8), torch.eye(8), singular, torch.eye(8), noise, torch.zeros(8), singular
    )
    assert torch.isfinite(result.log_likelihood).all()


def test_what_is_masked_may_be_anything() -> None:
    z = torch.zeros(SEQUENCES, STEPS, M)
    z[1, 2] = math.inf
    mask = torch.isfinite(z)
    assert torch.isfinite(kalman_filter(**arguments(z=z, mask=mask)).filt_mean).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: rts_smoother(r, torch.eye(3), EYE), r"rts_smoother: A has shape \(3, 3\)"),
        (lambda r: rts_smoother(r, EYE, INDEFINITE), "rts_smoother: Q is not positive semi-definite"),
        (lambda r: rts_smoother(r, EYE, EYE.expand(2, 5, 2, 2).contiguous()), r"result \(3,\), Q \(2,\)"),
        (lambda r: rts_smoother(r, EYE, EYE, method="scam"), "did you mean 'scan'"),
        (lambda r: forecast(r, 0, EYE, EYE, EYE, EYE), "forecast: horizon=0; it must be at least 1"),
        (lambda r: forecast(r, 2, EYE.expand(5, 2, 2), EYE, EYE, EYE), r"forecast: A has shape \(5, 2, 2\); allowed are \(2, 2\), \(2, 2, 2\)"),
        (lambda r: forecast(r, 2, EYE, EYE, EYE, -EYE), "forecast: R is not positive definite"),
        (lambda r: multi_step(r, 5, StateSpace(EYE, EYE, EYE, EYE, torch.zeros(2), EYE)), "multi_step: steps=5; it must be from 1 to 4"),
        (lambda r: innovation_log_likelihood(r.innovation[0, 0], EYE), r"it must be \(…, T, m\)"),
        (lambda r: innovation_log_likelihood(r.innovation, torch.eye(3)), r"innovation_cov has shape \(3, 3\)"),
        (lambda r: innovation_log_likelihood(r.innovation, 0 * EYE), "innovation_cov at step 0 is not positive definite"),
        (lambda r: innovation_log_likelihood(r.innovation, spread(EYE, (1, 3), 0 * EYE)), "innovation_cov at step 3 of sequence 1 is not positive definite"),
        (lambda r: innovation_log_likelihood(r.innovation + math.inf, EYE), "innovation at step 0 of sequence 0 has an infinite"),
    ],
)  # fmt: skip
def test_the_others_name_what_is_wrong(call: Callable[[object], object], message: str) -> None:
    result = kalman_filter(**arguments())  # type: ignore[arg-type]
    with pytest.raises(VidsslError, match=message):
        call(result)
