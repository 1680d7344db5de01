"""Is self-distillation in a concept space healthy? What is logged of each space, and one sentence when it is not.

Three ways to fail: few concepts receive all targets (hubs), targets are flat and say nothing, features drift away from
where the concept vectors mean something. The loss shows none of them: a cross-entropy also falls when only its targets
sharpen, hence the divergence beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vidssl.objectives.queue import RowQueue

# Entropy of the mean target, as a share of log K, below which few concepts receive nearly all of it.
HUB_ENTROPY = 0.3
# Mean entropy of the targets, as a share of log K, above which they are flat: DINO's 0.04 on cosines gives 0.96.
FLAT_ENTROPY = 0.95
# Cosine with the initial image model below which the concept vectors start to lose their meaning.
DRIFT_COSINE = 0.9
# Clips before the entropy of the mean target means anything: that of n clips cannot exceed their own plus log n.
FEWEST_CLIPS = 100


class ConceptMonitor(nn.Module):
    """Scalars of one space; remembers about the last `window` clips, also across a checkpoint.

    Args:
        concepts: K.
        window: clips.
    """

    marginal: Tensor
    clips: Tensor

    def __init__(self, concepts: int, window: int = 1000) -> None:
        super().__init__()
        self.concepts, self.window = concepts, window
        self.register_buffer("marginal", torch.zeros(concepts))
        self.register_buffer("clips", torch.zeros((), dtype=torch.int64))
        # Places not written yet hold K, which is no concept.
        self.winners = RowQueue(window, fill=concepts, dtype=torch.int64)

    @torch.no_grad()
    def forward(
        self,
        student_logits: Sequence[Tensor],
        teacher_probs: Sequence[Tensor],
        cross_entropy: Tensor,
        pairs: Sequence[tuple[int, int]],
        remember: bool,
    ) -> dict[str, Tensor]:
        """
        Args:
            student_logits: per view (B, K) cosines of the global batch.
            teacher_probs: per view of the teacher (B, K) targets.
            cross_entropy: the distillation loss of these, nats.
            pairs: (student view, teacher view) that it compared.
            remember: whether these clips enter the window.

        Returns:
            entropy: mean H(P_t) / log K, wanted between 0.3 and 0.8 at the start.
            marginal_entropy: H(mean P_t) / log K over the window, in which older clips fade.
            divergence: cross_entropy - H(P_t), nats, never negative.
            agreement: share of compared pairs in which student and target prefer the same concept.
            used: share of concepts that the student's plain cosines preferred for any of the last `window` clips.
        """
        entropies = [_entropy(view).mean() for view in teacher_probs]
        entropy = torch.stack([entropies[t] for _, t in pairs]).mean()
        preferred = [view.argmax(dim=1) for view in student_logits]
        wanted = [view.argmax(dim=1) for view in teacher_probs]
        agreement = torch.stack([preferred[s] == wanted[t] for s, t in pairs])
        # One row per clip: the mean over the teacher's views, and the first view of the student that is compared.
        targets = torch.stack(list(teacher_probs)).mean(dim=0)
        winners = preferred[pairs[0][0]]
        marginal = self._marginal(targets)
        used = torch.zeros(self.concepts + 1, dtype=torch.bool, device=winners.device)
        if remember:
            self.marginal.copy_(marginal)
            self.clips += len(targets)
            self.winners.append(winners)
        used[self.winners.rows] = True
        used[winners] = True
        scale = math.log(self.concepts)
        return {
            "entropy": entropy / scale,
            "marginal_entropy": _entropy(marginal) / scale,
            "divergence": cross_entropy.detach() - entropy,
            "agreement": agreement.to(entropy.dtype).mean(),
            "used": used[: self.concepts].to(entropy.dtype).mean(),
        }

    def _marginal(self, targets: Tensor) -> Tensor:
        """(K,) the mean target: plain over the first `window` clips, then with a memory of about as many."""
        n = len(targets)
        remembered = (self.clips + n).clamp_max(self.window).to(targets.dtype)
        share = (n / remembered).clamp_max(1)
        return torch.lerp(self.marginal.to(targets.dtype), targets.mean(dim=0), share)


def spaces_agree(targets: Mapping[str, Sequence[Tensor]], shares: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`spaces_agree`, share of targets that prefer the same concept in two row-aligned spaces, and for each kind of attribute
    `spaces_agree_<kind>`, share of targets whose preferred action has the preferred attribute.

    Args:
        targets: by space, per view of the teacher (B, K) or (B, M).
        shares: by kind of attribute (K, M), above 0 where the action has it; the other spaces are row-aligned.
    """
    preferred = {name: torch.cat(list(views)).argmax(dim=1) for name, views in targets.items()}
    actions = [name for name in preferred if name not in shares]
    found = {}
    if len(actions) == 2:
        found["spaces_agree"] = preferred[actions[0]] == preferred[actions[1]]
    for kind, matrix in shares.items() if actions else ():
        found[f"spaces_agree_{kind}"] = matrix[preferred[actions[0]], preferred[kind]] > 0
    return {name: same.to(torch.float32).mean() for name, same in found.items()}


def concept_warning(logs: Mapping[str, float]) -> str | None:
    """One sentence when the logs of a step show hubs, flat targets or drift in any concept space, else None.

    Args:
        logs: as `ConceptObjective` returns them, under whatever name of the objective.
    """
    signs: list[str] = []
    for key in logs:
        name, _, quantity = key.rpartition("/")
        if quantity.startswith("marginal_entropy_"):
            space = quantity.removeprefix("marginal_entropy_")
            clips = logs.get(f"{name}/clips", math.inf)
            signs += _space_signs(name, space, logs[key], logs.get(f"{name}/entropy_{space}"), clips)
        elif quantity == "anchor_cosine" and logs[key] < DRIFT_COSINE:
            signs.append(
                f"{name}: features have drifted from the initial image model (mean cosine {logs[key]:.2f}, below "
                f"{DRIFT_COSINE:g}), and concept vectors lose their meaning with it: set anchor to 1 to 5, lower "
                "the learning rate of pretrained weights, or freeze more of them"
            )
    return "; ".join(signs) + "." if signs else None


def _space_signs(name: str, space: str, marginal: float, entropy: float | None, clips: float) -> list[str]:
    if entropy is not None and entropy > FLAT_ENTROPY:
        return [
            f"{name}: targets of the {space} space are flat (entropy {entropy:.2f} of its maximum, above "
            f"{FLAT_ENTROPY:g}) and teach nothing: lower teacher_temperature, 0.01 is usual for cosines"
        ]
    if marginal < HUB_ENTROPY and clips >= FEWEST_CLIPS:
        return [
            f"{name}: few concepts of the {space} space receive nearly all targets (entropy of the mean target "
            f"{marginal:.2f} of its maximum, below {HUB_ENTROPY:g}): use prior=center with prior_strength near 1, "
            "and warm it up before training"
        ]
    return []


def _entropy(p: Tensor) -> Tensor:
    """-sum p log p over the last axis, nats."""
    entropies: Tensor = torch.special.entr(p).sum(dim=-1)
    return entropies
