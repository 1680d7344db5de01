"""A linear-Gaussian state-space model whose matrices are learned.

    x_t = A (x_{t-1} - β) + β + w_t,   w_t ~ N(0, Q)          n state dimensions, β the fixed point
    z_t = [I 0] x_t          + v_t,    v_t ~ N(0, R)          m <= n of them are observed

The parametrisation is that of the Kalman predictor of Mikulasch & Zenke 2026 (arXiv 2605.03517) and its released code;
the n - m hidden dimensions can hold velocities. Whatever can be the same for all sequences is handed to the filter
once, so that its covariances are computed once.

    >>> ssm = LinearGaussianSSM(state_dim=10, latent_dim=5)
    >>> result = ssm.filter(z)                                          # z (B, T, 5)
    >>> loss = -result.log_likelihood.sum(-1).mean()
    >>> ssm.project_stable_()                                           # after the optimiser's step
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidssl.dynamics.forecast import Forecast, forecast, multi_step
from vidssl.dynamics.kalman import FilterResult, StateSpace, kalman_filter
from vidssl.dynamics.moments import latent_moments
from vidssl.dynamics.smoother import SmootherResult, rts_smoother
from vidssl.dynamics.transitions import TRANSITIONS, discretise, eigenvalues, spectral_radius
from vidssl.errors import VidsslError, check_choice

PROCESS_NOISES = ("diag", "full")
OBSERVATION_NOISES = ("identity", "scalar", "diag", "full", "input")
BIASES = ("fixed_point", "none")
NOISE_FLOOR = 1e-5
NOISE_CEILING = 1e4
# Of the variance of steps, the start of R: white noise of variance r makes 2r of it, and Q the rest.
OBSERVED_SHARE = 0.1


class LinearGaussianSSM(nn.Module):
    """See the module's docstring.

    Args:
        state_dim: n >= m.
        latent_dim: m.
        transition: "near_identity", "rotation", "orthogonal" or "continuous"; see `vidssl.dynamics.transitions`.
        Q: "diag" or "full" process noise, at first the identity; per time unit where time is continuous.
        R: "identity", fixed, which also fixes the scale of z; learned: "scalar", "diag", "full", at first the
            identity; "input": handed to `filter`, see `input_noise`.
        bias: "fixed_point" β, at first 0, or "none".
        joint_scale: learn a factor exp(s) on Q, R (also one that is handed to `filter`) and the prior covariance: the unit in
            which z is measured.
        predict_first: the prior N(0, I) is that of the state one step (one time unit) before the first frame; False:
            of the state at the first frame.
        time_unit: seconds to which "continuous" A and Q refer.
        generator: of the start values; torch's global one when None.

    Raises:
        VidsslError: for an unknown choice, n < m, or n > 2m with "rotation", where some planes would never be seen.
    """

    def __init__(
        self,
        state_dim: int,
        latent_dim: int,
        transition: str = "near_identity",
        Q: str = "diag",
        R: str = "identity",
        bias: str = "fixed_point",
        joint_scale: bool = False,
        predict_first: bool = True,
        time_unit: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("transition", transition, TRANSITIONS)
        check_choice("Q", Q, PROCESS_NOISES)
        check_choice("R", R, OBSERVATION_NOISES)
        check_choice("bias", bias, BIASES)
        if not 1 <= latent_dim <= state_dim:
            raise VidsslError(
                f"state_dim={state_dim}: must be at least latent_dim={latent_dim}, which is at least 1"
            )
        if transition == "rotation" and state_dim > 2 * latent_dim:
            raise VidsslError(f"state_dim={state_dim}: transition='rotation' sees at most {2 * latent_dim}")
        if not time_unit > 0:
            raise VidsslError(f"time_unit={time_unit}: must be positive seconds")
        self.state_dim, self.latent_dim = state_dim, latent_dim
        self.R, self.predict_first, self.time_unit = R, predict_first, time_unit
        self.continuous = transition == "continuous"
        self.transition = TRANSITIONS[transition](state_dim, generator)
        self.process_noise = LearnedCovariance(state_dim, Q)
        self.observation_noise = LearnedCovariance(latent_dim, "identity" if R == "input" else R)
        self.fixed_point = nn.Parameter(torch.zeros(state_dim)) if bias == "fixed_point" else None
        self.log_scale = nn.Parameter(torch.zeros(())) if joint_scale else None
        self.prior_variance: Tensor
        self.register_buffer("prior_variance", torch.ones(state_dim))

    @property
    def learns_scale(self) -> bool:
        """Whether z could be measured in other units without a change of likelihood but for the volume."""
        return self.log_scale is not None or self.R != "identity"

    def matrices(self, times: Tensor | None = None, R: Tensor | None = None) -> StateSpace:
        """The arguments of `kalman_filter`, with a time or batch axis only where steps or sequences differ.

        Args:
            times: (…, T) seconds of the frames, where time is continuous; one time unit per step when None. Time that
                does not go on (padding) is a step of length 0.
            R: observation noise in place of the model's own; needed with R="input". In units of the joint scale, if any.

        Raises:
            VidsslError: for times without a continuous transition, or a missing R.
        """
        return self._matrices(self._lengths(times), R)

    def filter(
        self,
        z: Tensor,
        R: Tensor | None = None,
        mask: Tensor | None = None,
        times: Tensor | None = None,
        method: str = "joseph",
    ) -> FilterResult:
        """`kalman_filter` of z (…, T, m) with the model's matrices; see `matrices` for R and times."""
        arguments = self.matrices(times, R)._asdict()
        return kalman_filter(z, **arguments, mask=mask, predict_first=self.predict_first, method=method)

    def smooth(self, result: FilterResult, times: Tensor | None = None) -> SmootherResult:
        """`rts_smoother` of what `filter` returned for the same `times`."""
        return rts_smoother(result, *self._steps(self._lengths(times)))

    def forecast(
        self, result: FilterResult, horizon: int, R: Tensor | None = None, step: float | None = None
    ) -> Forecast:
        """`horizon` steps past the last one, of `step` seconds each where time is continuous (None: one time unit)."""
        length = None
        if step is not None:
            self._check_continuous(f"step={step}")
            length = torch.as_tensor(step / self.time_unit, device=result.filt_mean.device)
        model = self._matrices(length, R)
        return forecast(result, horizon, model.A, model.Q, model.C, model.R, model.b)

    def multi_step(
        self, result: FilterResult, steps: int, R: Tensor | None = None, times: Tensor | None = None
    ) -> list[Forecast]:
        """`multi_step` of what `filter` returned for the same `R` and `times`: 1, 2, … `steps` ahead of every step."""
        return multi_step(result, steps, self.matrices(times, R))

    @torch.no_grad()
    def calibrate_(self, z: Tensor, valid: Tensor | None = None, step: float = 1.0) -> None:
        """Start as wide, slow and noisy as latents are.

        Latents of variance v whose steps have variance δ keep φ = 1 - δ / 2v of themselves a step. φ is the diagonal of A,
        where A is free; v the variance of the prior; their mean the fixed point. Q and R (where it is learned; the joint
        scale takes what is common) make steps of δ, R a tenth of it, as clean frames have. Hidden dimensions get means.

        Args:
            z: (B, T, m), T of at least 2.
            valid: (B, T) bool, which count; all when None.
            step: length of a step, in time units.
        """
        mean, variance, noise = latent_moments(z, valid)
        scale = noise.new_ones(())
        if self.log_scale is not None:
            scale = noise.mean()
            self.log_scale.copy_(scale.log())
        full = partial(_with_mean, n=self.state_dim)
        self.observation_noise.start_at_(OBSERVED_SHARE * noise / scale)
        self.process_noise.start_at_((1 - 2 * OBSERVED_SHARE) * full(noise / scale) / step)
        self.prior_variance.copy_(full(variance / scale))
        self.transition.start_at_(full(1 - noise / (2 * variance)), step)
        if self.fixed_point is not None:
            self.fixed_point[: self.latent_dim] = mean

    def project_stable_(self, bound: float = 1.02) -> None:
        """Shrink A in place to a spectral radius of at most `bound`, so that gradients over T steps grow by bound^T.

        For after the optimiser's step: inside a forward pass it would change parameters under autograd's feet.
        """
        self.transition.clamp_(bound)

    @torch.no_grad()
    def eigenvalues(self) -> Tensor:
        """(n,) complex128, on the CPU: of A over one step or time unit. The angle is 2π times the frequency."""
        return eigenvalues(self.transition())

    @torch.no_grad()
    def spectral_radius(self) -> float:
        """Largest modulus of the eigenvalues; above 1 the model expects to blow up."""
        return spectral_radius(self.transition())

    def _lengths(self, times: Tensor | None) -> Tensor | None:
        """(…, T) lengths of the steps into each frame, in time units; the prior is one time unit before the first."""
        if times is None:
            return None
        self._check_continuous("times")
        latest = times.cummax(dim=-1).values
        # Differences are known to the rounding of the times themselves; on this grid, of powers of two, equal steps
        # of different sequences are equal, and are then computed once.
        rounding = 4 * torch.finfo(times.dtype).eps * float(latest.abs().max())
        grid = 2.0 ** math.ceil(math.log2(rounding)) if rounding > 0 else 1.0
        unit = torch.full_like(latest[..., :1], self.time_unit)
        steps = torch.cat([unit, latest.diff(dim=-1)], dim=-1).div(grid).round() * grid
        return steps / self.time_unit

    def _steps(self, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """A and Q over steps of these lengths, (n, n), (T, n, n) or (…, T, n, n): as few as there are different ones."""
        with torch.autocast(self.observation_noise.eye.device.type, enabled=False):
            Q = self._scaled(self.process_noise())
            if lengths is None and not self.continuous:
                return self.transition(), Q
            if lengths is None:
                lengths = Q.new_ones(())
            first = lengths.reshape(-1, *lengths.shape[-1:])[0]
            if lengths.ndim > 1 and bool((lengths == first).all()):
                lengths = first
            distinct, which = torch.unique(lengths.to(Q.dtype), return_inverse=True)
            A, Q = discretise(self.transition.rate(), Q, distinct)
        return (A[0], Q[0]) if len(distinct) == 1 else (A[which], Q[which])

    def _matrices(self, lengths: Tensor | None, R: Tensor | None) -> StateSpace:
        if R is None and self.R == "input":
            raise VidsslError("R='input': give the observation noise of the frames as R")
        A, Q = self._steps(lengths)
        with torch.autocast(A.device.type, enabled=False):
            eye = torch.eye(self.state_dim, dtype=A.dtype, device=A.device)
            b = None if self.fixed_point is None else self.fixed_point - A @ self.fixed_point
            own = self._scaled(self.observation_noise() if R is None else R)
            prior = self._scaled(torch.diag(self.prior_variance))
        return StateSpace(A, Q, eye[: self.latent_dim], own, torch.zeros_like(eye[0]), prior, b)

    def _scaled(self, cov: Tensor) -> Tensor:
        return cov if self.log_scale is None else cov * self.log_scale.exp()

    def _check_continuous(self, what: str) -> None:
        if not self.continuous:
            raise VidsslError(
                f"{what}: only transition='continuous' knows how much time lies between two frames"
            )


class LearnedCovariance(nn.Module):
    """(n, n) positive definite, at first the identity: "identity" (fixed), "scalar", "diag" or "full" = L Lᵀ.

    Learned variances keep a floor of `NOISE_FLOOR`.
    """

    def __init__(self, n: int, kind: str) -> None:
        super().__init__()
        self.n, self.kind = n, kind
        if kind == "full":
            self.raw = nn.Parameter(torch.eye(n) * math.log(math.e - 1))  # softplus of it is 1
        elif kind != "identity":
            self.raw = nn.Parameter(torch.zeros(1 if kind == "scalar" else n))
        self.eye: Tensor
        self.register_buffer("eye", torch.eye(n), persistent=False)

    @torch.no_grad()
    def start_at_(self, variances: Tensor) -> None:
        """Take these variances (n,) where they can be learned, their mean where all are one."""
        free = (variances - NOISE_FLOOR).clamp_min(NOISE_FLOOR)
        if self.kind == "full":
            self.raw.copy_(torch.diag(free.sqrt().expm1().log()))  # softplus of it is the root
        elif self.kind != "identity":
            self.raw.copy_(free.log() if self.kind == "diag" else free.mean().log())

    def forward(self) -> Tensor:
        if self.kind == "identity":
            return self.eye
        if self.kind == "full":
            L = self.raw.tril(-1) + torch.diag(functional.softplus(self.raw.diagonal()))
            return L @ L.mT + NOISE_FLOOR * self.eye
        return torch.diag((self.raw.exp() + NOISE_FLOOR).expand(self.n))


def _with_mean(x: Tensor, n: int) -> Tensor:
    """(n,) the numbers x, then their mean."""
    return torch.cat([x, x.mean().expand(n - len(x))])


def input_noise(raw: Tensor) -> Tensor:
    """R_t from what an encoder says of a frame: diag(softplus(1 + raw) + 1e-5), at most 1e4.

    Args:
        raw: (…, m) unbounded; 0 is a variance of 1.

    Returns:
        (…, m, m), float32 or wider. The softplus is sharp (beta = 10): linear above and near zero below.
    """
    raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
    variance = functional.softplus(1 + raw, beta=10) + NOISE_FLOOR
    return torch.diag_embed(variance.clamp_max(NOISE_CEILING))
