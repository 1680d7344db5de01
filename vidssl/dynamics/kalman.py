"""Kalman filter, smoother and forecasts of linear-Gaussian state-space models, batched and differentiable.

    x_t = A_t x_{t-1} + b_t + w_t,   w_t ~ N(0, Q_t)          n state dimensions
    z_t = C_t x_t     + d_t + v_t,   v_t ~ N(0, R_t)          m observed dimensions

Shapes, for all functions: z (…, T, m); every matrix (n, n), (T, n, n) or (…, T, n, n), every vector (n,), (T, n) or
(…, T, n): the time axis stands right before the matrix or vector axes, batch axes before it. A[t], b[t], Q[t] lead INTO
step t. A time axis may have length 1 (constant), batch axes broadcast.

Precision is float32 or wider, also under autocast; float64 in, float64 out.

    >>> result = kalman_filter(z, A, Q, C, R, m0, P0)          # z (B, T, m)
    >>> loss = -result.log_likelihood.sum(-1).mean()
    >>> smooth = rts_smoother(result, A, Q)
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from vidssl.dynamics._engine.layout import Layout, in_one_precision, shared, symmetric
from vidssl.dynamics._engine.likelihood import (
    LOG_2PI,
    hide_missing,
    innovation_log_likelihood,
    log_density,
    mask_covariance,
    undefined,
)
from vidssl.dynamics._engine.means import predicted_means
from vidssl.dynamics._engine.results import FilterResult, StateSpace
from vidssl.dynamics._engine.riccati import CovariancePass, check_method, covariance_pass
from vidssl.dynamics.forecast import forecast
from vidssl.dynamics.smoother import rts_smoother
from vidssl.errors import VidsslError

__all__ = [
    "LOG_2PI",
    "FilterResult",
    "StateSpace",
    "forecast",
    "innovation_log_likelihood",
    "kalman_filter",
    "rts_smoother",
]


def kalman_filter(
    z: Tensor,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    m0: Tensor,
    P0: Tensor,
    b: Tensor | None = None,
    d: Tensor | None = None,
    mask: Tensor | None = None,
    predict_first: bool = True,
    method: str = "joseph",
    check: bool = True,
) -> FilterResult:
    """Filtered and predicted moments and the log-likelihood of every step (Kalman 1960).

    Args:
        z: (…, T, m) observations; NaN is a missing entry.
        A, Q: (n, n), (T, n, n) or (…, T, n, n): transition into step t and its noise covariance. Q may be singular.
        C, R: (m, n) and (m, m) in the same three forms: observation matrix and noise covariance. R is positive
            definite; it may come from an encoder, one per step and sequence.
        m0, P0: (n,) or (…, n), and (n, n) or (…, n, n): prior mean and covariance. P0 may be singular.
        b, d: (n,), (T, n) or (…, T, n), and the same of m: offsets of state and observation.
        mask: bool, broadcastable to (…, T, m), True where observed. A whole step or single entries may be missing.
        predict_first: the prior is that of the state before step 0, and A[0], b[0], Q[0] lead from it into step 0.
            False: it is the prior of step 0 itself, and A[0], b[0], Q[0] are not used.
        method: "joseph", one step after another; "sqrt", the same on triangular square roots, for priors and noises
            many orders of magnitude apart; "scan", parallel over time, for a GPU and long sequences.
        check: False takes the values as they are, without a synchronisation with a GPU: NaN is missing only under a mask,
            and what would be an error makes the result NaN.

    Returns:
        FilterResult: means and covariances before and after seeing each step, innovations and their covariances, and
        the log-likelihood. The gradient with respect to every argument is exact with every method, and can be taken
        twice; call `backward` outside autocast.

    Raises:
        VidsslError: for wrong shapes; an infinite entry; a Q, R or P0 that is not symmetric or not positive
            (semi-)definite; or an innovation covariance that has no Cholesky factor. Names the argument, the step and
            the sequence.

    The covariances depend on the data only through what is missing. They are computed once for all sequences, in
    (T, n, n), when no matrix has batch axes and the same entries are missing everywhere, and once per pattern of
    missing entries when no matrix has batch axes; only the means are then computed per sequence.
    """
    check_method("kalman_filter", method)
    model = StateSpace(A, Q, C, R, m0, P0, b, d)
    x = in_one_precision("kalman_filter", {"z": z, **model._asdict()})
    with torch.autocast(x["z"].device.type, enabled=False):
        return _filter(*_read(x, mask, predict_first, check), method, check)


def _read(
    x: dict[str, Tensor], mask: Tensor | None, predict_first: bool, check: bool
) -> tuple[Tensor, StateSpace, Tensor | None, Layout]:
    """z, the model, what is observed, checked and laid out time first.

    A, Q, b of the model lead into step 1, or 0 if the filter predicts first.
    """
    name, z, A = "kalman_filter", x["z"], x["A"]
    if z.ndim < 2 or z.shape[-2] == 0:
        raise VidsslError(f"{name}: z has shape {tuple(z.shape)}; it must be (…, T, m) with T of at least 1")
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise VidsslError(f"{name}: A has shape {tuple(A.shape)}; it must end in (n, n)")
    n, (*batch, steps, m) = A.shape[-1], z.shape
    layout = Layout(name, steps, batch)
    layout.read(x, n, m)
    x["z"], observed = hide_missing(layout, x["z"], mask, check)
    layout.batch  # noqa: B018  raises when batch axes do not fit together
    if check:
        layout.check_values(x)
    for key in ("Q", "R", "P0"):
        x[key] = symmetric(x[key])
    if not predict_first:
        for key, axis in (("A", -3), ("Q", -3), ("b", -2)):
            if key in x and x[key].shape[axis] > 1:
                x[key] = x[key].narrow(axis, 1, steps - 1)
    moves = steps if predict_first else steps - 1
    # One covariance pass for all sequences: then they are the columns of the vectors.
    matrices = [x[key] for key in ("A", "Q", "C", "R", "P0")]
    columns = (observed is None or observed.ndim == 2) and shared(*matrices)
    model = layout.model(x, columns, moves)
    observed = None if observed is None else layout.vectors(observed, columns)
    return layout.vectors(x["z"], columns), model, observed, layout


def _filter(
    z: Tensor, model: StateSpace, observed: Tensor | None, layout: Layout, method: str, check: bool
) -> FilterResult:
    A, _, C, R, prior, _, b, d = model
    passed, masked_C = _covariances(model, observed, layout, method, check)
    start = prior[0]
    y = z if d is None else z - d
    between, offsets = A, b
    if len(A) == len(C):
        start, between = A[0] @ start, A[1:]
        if b is not None:
            start, offsets = start + b[0], b[1:]
    lead = passed.gain.shape[1]
    start = start.expand(lead, C.shape[-1], layout.size if lead == 1 else 1)
    pred_mean = predicted_means(passed, between, masked_C, y, offsets, start, method == "scan")
    if not check:
        pred_mean = pred_mean + undefined(passed.failed, pred_mean.dtype)
    innovation = y - C @ pred_mean
    if observed is not None:
        innovation = torch.where(observed, innovation, 0)
    return FilterResult(
        layout.vectors_back(pred_mean),
        layout.matrices_back(passed.pred),
        layout.vectors_back(pred_mean + passed.gain @ innovation),
        layout.matrices_back(passed.filt),
        layout.vectors_back(innovation),
        layout.matrices_back(symmetric(C @ passed.pred @ C.mT + R)),
        layout.vectors_back(log_density(innovation, passed.factor, observed)[:, :, None])[..., 0],
    )


def _covariances(
    model: StateSpace, observed: Tensor | None, layout: Layout, method: str, check: bool
) -> tuple[CovariancePass, Tensor]:
    """The covariance pass, and C with the rows of missing entries set to 0."""
    (A, Q, C, R, _, P0, _, _), which = model, None
    if observed is not None:
        if all(x.shape[-3] == 1 for x in (A, Q, C, R, P0)) and observed.shape[1] > 1:
            observed, which = _patterns(observed)
        C, R = C * observed, mask_covariance(R, observed[..., 0])
    passed = covariance_pass(P0[0], A, Q, C, R, method)
    if which is not None:
        passed, C = CovariancePass(*(x[:, which] for x in passed)), C[:, which]
    if check and bool(passed.failed.any()):
        where = layout.where(passed.failed != 0)
        raise VidsslError(
            f"kalman_filter: innovation covariance{where} is not positive definite in {C.dtype}; "
            "method='sqrt' and float64 reach further"
        )
    return passed, C


def _patterns(observed: Tensor) -> tuple[Tensor, Tensor | None]:
    """Distinct patterns (T, U, m, 1) of what is observed (T, B, m, 1), and which one each sequence has; None if U = B."""
    rows = rearrange(observed, "t b m 1 -> b (t m)")
    distinct, which = torch.unique(rows, dim=0, return_inverse=True)
    if len(distinct) == len(rows):
        return observed, None
    return rearrange(distinct, "u (t m) -> t u m 1", t=len(observed)), which
