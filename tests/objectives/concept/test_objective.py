"""The objective on concept spaces: against NumPy over several steps, its state, its schedules, its refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.objectives.concept import reference
from vidssl.errors import VidsslError
from vidssl.files import write_tensors
from vidssl.models.encoder import ClipFeatures
from vidssl.models.heads import HeadOutput, IdentityHead
from vidssl.models.weights import load_strict, read_tensors
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.composite import Composite
from vidssl.objectives.concept.objective import ConceptObjective
from vidssl.objectives.concept.priors import PRIORS

SPACE = reference.space()


def rows(views: int, b: int = 5, seed: int = 0) -> list[Tensor]:
    return [2 * reference.unit(b, 4, 10 * seed + view) for view in range(views)]


def expected_loss(
    student: list[Tensor],
    teacher: list[Tensor],
    centres: dict[str, Any],
    t_s: float,
    t_t: float,
    sigma: float,
    seen: tuple[int, ...] | None,
) -> float:
    s, t = {}, {}
    for name in ("category", "description"):
        vectors = getattr(SPACE, name)
        s[name] = [reference.cosines(view, vectors) for view in student]
        plain = [reference.cosines(view, vectors) for view in teacher]
        mean = np.concatenate(plain).mean(axis=0)
        centre = centres.setdefault(name, mean)
        t[name] = [reference.probs(view, t_t, centre) for view in plain]
        centres[name] = 0.9 * centre + 0.1 * mean
    distillation = np.mean([reference.distillation(s[name], t[name], t_s, seen) for name in s])
    aligned = reference.alignment(
        s["category"], s["description"], t["category"], t["description"], t_s, sigma
    )
    return float(0.7 * distillation + 1.5 * aligned)


@pytest.mark.parametrize(("sigma", "seen"), [(1.0, None), (0.25, None), (1.0, (2, 0))])
def test_loss_of_several_steps_equals_numpy(sigma: float, seen: tuple[int, ...] | None) -> None:
    objective = ConceptObjective(
        SPACE, distillation=0.7, alignment=1.5, sigma=sigma, student_temperature=0.2, teacher_temperature=0.1
    ).double()
    centres: dict[str, Any] = {}
    for step in range(3):
        student, teacher = rows(3, seed=step), rows(2, seed=step + 10)
        output = objective(student, teacher, BatchInfo(torch.arange(5), teacher_views=seen))
        expected = expected_loss(student, teacher, centres, 0.2, 0.1, sigma, seen)
        assert output.loss.item() == pytest.approx(expected, abs=1e-9)
        assert output.logs["concept/loss"].item() == output.loss.item()
    for name, centre in centres.items():
        np.testing.assert_allclose(objective.priors[name].mean.numpy(), centre, atol=1e-9)


def test_logs_add_up() -> None:
    objective = ConceptObjective(
        SPACE, sigma=0.5, student_temperature=0.2, prior="memax", prior_weight=2
    ).double()
    logs = {key: value.item() for key, value in objective(rows(3), rows(2, seed=1)).logs.items()}
    c, d = logs["concept/distillation_category"], logs["concept/distillation_description"]
    forth = logs["concept/alignment_category_to_description"]
    back = logs["concept/alignment_description_to_category"]
    total = (c + d) / 2 + (forth + 0.5 * back) / 1.5 + 2 * logs["concept/prior"]
    assert logs["concept/loss"] == pytest.approx(total, abs=1e-12)
    assert -math.log(7) <= logs["concept/prior"] <= 0
    for space in ("category", "description"):
        entropy = logs[f"concept/entropy_{space}"] * math.log(7)
        assert logs[f"concept/divergence_{space}"] == pytest.approx(
            logs[f"concept/distillation_{space}"] - entropy, abs=1e-12
        )
    assert logs["concept/clips"] == 5
    targets = [
        reference.cosines(view, vectors).argmax(axis=1)
        for vectors in (SPACE.category, SPACE.description)
        for view in rows(2, seed=1)
    ]
    same = np.mean([targets[0] == targets[2], targets[1] == targets[3]])
    assert logs["concept/spaces_agree"] == pytest.approx(same)


@pytest.mark.parametrize("prior", PRIORS)
def test_gradient_reaches_the_student_only(prior: str) -> None:
    objective = ConceptObjective(SPACE, student_temperature=0.3, prior=prior).double().eval()
    student, teacher = (
        [x.requires_grad_() for x in rows(2, 3)],
        [x.requires_grad_() for x in rows(2, 3, seed=1)],
    )
    assert torch.autograd.gradcheck(lambda *x: objective(list(x), teacher).loss, tuple(student))
    objective.train()
    objective(
        student, teacher
    ).loss.backward()  # the statistics have changed since; the backward must not notice
    assert all(x.grad is not None and x.grad.abs().max() > 1e-4 for x in student)
    assert all(x.grad is None for x in teacher)
    assert not list(objective.parameters())


def test_the_head_is_the_identity() -> None:
    assert ConceptObjective.identity_head
    features = ClipFeatures(torch.rand(2, 4), torch.rand(2, 3, 4), None)
    output = IdentityHead()(features)
    assert output.projection is features.clip
    assert output.prediction is None
    assert not list(IdentityHead().parameters())


def test_inside_a_composite() -> None:
    composite = Composite({"mine": ConceptObjective(SPACE)}, {"mine": 0.5})
    assert composite.needs_teacher
    views = {"mine": [HeadOutput(x.float(), None, None) for x in rows(2)]}
    output = composite(views, views, BatchInfo(torch.arange(5)))
    assert output.loss.item() == pytest.approx(0.5 * output.logs["mine/loss"].item())
    assert {"mine/entropy_category", "mine/used_description", "mine/clips"} <= set(output.logs)
    assert not any(value.requires_grad for value in output.logs.values())


def test_evaluation_and_steps_that_will_be_skipped_leave_no_trace() -> None:
    objective = ConceptObjective(SPACE, prior="sinkhorn", queue_size=9)
    student, teacher = ([x.float() for x in rows(2, seed=s)] for s in (0, 1))
    objective(student, teacher)

    def state() -> list[Tensor]:
        return [value.clone() for value in objective.state_dict().values()]

    before = state()
    objective.eval()
    objective(student, teacher)
    objective.train()
    broken = objective([x * torch.nan for x in student], teacher)
    assert not torch.isfinite(broken.loss)
    objective([*student], [teacher[0], teacher[1] * torch.inf])
    assert all(torch.equal(a, b) for a, b in zip(before, state(), strict=True))
    objective(student, teacher)
    assert not all(torch.equal(a, b) for a, b in zip(before, state(), strict=True))


@pytest.mark.parametrize("prior", PRIORS)
def test_state_survives_a_checkpoint_bit_for_bit(prior: str, tmp_path: Any) -> None:
    def step(objective: ConceptObjective, seed: int) -> dict[str, Tensor]:
        logs: dict[str, Tensor] = objective(
            [x.float() for x in rows(2, seed=seed)], [x.float() for x in rows(2, seed=seed + 50)]
        ).logs
        return logs

    first = ConceptObjective(SPACE, prior=prior, queue_size=13)
    for seed in range(3):
        step(first, seed)
    write_tensors(tmp_path / "objective.safetensors", first.state_dict())
    resumed = ConceptObjective(SPACE, prior=prior, queue_size=13)
    if prior != "none" and prior != "memax":
        assert not torch.equal(step(resumed, 7)["concept/loss"], step(first, 7)["concept/loss"])
        first.load_state_dict(read_tensors(tmp_path / "objective.safetensors"))
    load_strict(resumed, read_tensors(tmp_path / "objective.safetensors"), "checkpoint")
    for seed in range(3, 6):
        a, b = step(first, seed), step(resumed, seed)
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in resumed.state_dict().items())


def test_the_state_of_another_space_is_refused_with_both_hashes() -> None:
    other = reference.space(seed=1)
    trained = Composite({"concept": ConceptObjective(other)})
    views = {"concept": [HeadOutput(x.float(), None, None) for x in rows(2)]}
    trained(views, views, BatchInfo(torch.arange(5)))
    here = Composite({"concept": ConceptObjective(SPACE)})
    before = {key: value.clone() for key, value in here.state_dict().items()}
    with pytest.raises(VidsslError) as caught:
        here.load_state_dict(trained.state_dict())
    assert other.sha256[:12] in str(caught.value)
    assert SPACE.sha256[:12] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in here.state_dict().items())
    Composite({"concept": ConceptObjective(other)}).load_state_dict(trained.state_dict())


def test_weights_and_temperatures_move_along_their_ramps() -> None:
    objective = ConceptObjective(
        SPACE,
        alignment=2.0,
        alignment_start=0.0,
        weight_ramp=0.5,
        teacher_temperature=0.01,
        teacher_temperature_start=0.03,
        temperature_ramp=0.2,
    ).double()
    seen = []
    for fraction in (0.0, 0.1, 0.25, 0.5, 1.0):
        objective.set_progress(fraction)
        seen.append((objective.alignment, objective.teacher_temperature))
        logs = objective(rows(2), rows(2, seed=1)).logs
        assert logs["concept/teacher_temperature"].item() == pytest.approx(seen[-1][1])
        total = (logs["concept/distillation_category"] + logs["concept/distillation_description"]) / 2
        aligned = logs["concept/alignment_category_to_description"]
        aligned = (aligned + logs["concept/alignment_description_to_category"]) / 2
        assert logs["concept/loss"].item() == pytest.approx((total + seen[-1][0] * aligned).item(), rel=1e-9)
    np.testing.assert_allclose(seen, [(0, 0.03), (0.4, 0.02), (1, 0.01), (2, 0.01), (2, 0.01)])
    assert (objective.distillation, objective.student_temperature, objective.anchor) == (1.0, 0.01, 0.0)


def test_anchor_adds_one_minus_the_cosine() -> None:
    plain = ConceptObjective(SPACE).double().eval()
    anchored = ConceptObjective(SPACE, anchor=3.0).double().eval()
    watched = ConceptObjective(SPACE, log_drift=True).double().eval()
    assert (plain.needs_anchor, anchored.needs_anchor, watched.needs_anchor) == (False, True, True)
    assert ConceptObjective(SPACE, anchor=0.0, anchor_start=1.0).needs_anchor
    student, teacher, anchors = rows(3), rows(2, seed=1), rows(2, seed=2)
    ids = torch.arange(5)
    batch = BatchInfo(ids, teacher_views=(2, 0), anchors=anchors)
    cosine = np.mean(
        [(student[v] * a).sum(dim=1).mean().item() / 4 for v, a in zip((2, 0), anchors, strict=True)]
    )
    base = plain(student, teacher, BatchInfo(ids, teacher_views=(2, 0)))
    assert "concept/anchor_cosine" not in base.logs
    for objective, weight in ((anchored, 3), (watched, 0)):
        output = objective(student, teacher, batch)
        assert output.logs["concept/anchor_cosine"].item() == pytest.approx(cosine, abs=1e-12)
        assert output.loss.item() == pytest.approx(base.loss.item() + weight * (1 - cosine), abs=1e-9)
    still = anchored(anchors, anchors, BatchInfo(ids, anchors=anchors))
    assert still.logs["concept/anchor_cosine"].item() == pytest.approx(1)
    with pytest.raises(VidsslError, match=r"anchor=3 needs the features of the initial image model"):
        anchored(student, teacher)


def test_warm_start_sets_both_centres() -> None:
    objective = ConceptObjective(SPACE).double()
    many = reference.unit(50, 4, 9)
    objective.warm_start(3 * many)
    for name in ("category", "description"):
        expected = reference.cosines(many, getattr(SPACE, name)).mean(axis=0)
        np.testing.assert_allclose(objective.priors[name].mean.numpy(), expected, atol=1e-12)


def test_autocast_gives_float32() -> None:
    student, teacher = ([x.to(torch.bfloat16) for x in rows(2, seed=s)] for s in (0, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = ConceptObjective(SPACE)(student, teacher)
    exact = ConceptObjective(SPACE)([x.float() for x in student], [x.float() for x in teacher])
    assert output.loss.dtype == torch.float32
    assert output.loss.item() == exact.loss.item()


def test_the_space_is_copied() -> None:
    space = reference.space()
    kept = space.category.clone()
    objective = ConceptObjective(space).double()
    objective.category.zero_()
    assert torch.equal(space.category, kept)
    assert not {"category", "description"} & set(objective.state_dict())


def test_a_built_concept_space_is_accepted() -> None:
    spaces = pytest.importorskip("vidssl.concepts.space")
    concepts = tuple(
        spaces.SpaceConcept(id=f"c{k}", name=f"c {k}", descriptions=("a thing",)) for k in range(7)
    )
    info = spaces.SpaceInfo(
        name="toy",
        concepts=concepts,
        category_templates=("{}",),
        description_templates=("{}",),
        encoder="0" * 64,
        context_length=77,
        key="0" * 64,
    )
    counts = torch.ones(7, dtype=torch.int64)
    space = spaces.ConceptSpace(info, SPACE.category, SPACE.description, SPACE.description[:, None], counts)
    objective = ConceptObjective(space)
    student, teacher = ([x.float() for x in rows(2, seed=s)] for s in (0, 1))
    assert torch.equal(objective(student, teacher).loss, ConceptObjective(SPACE)(student, teacher).loss)
    assert objective.space_hash == space.sha256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": -0.1}, "sigma=-0.1"),
        ({"prior": "centre"}, "did you mean 'center'"),
        ({"alignment": -1.0}, "alignment=-1.0: must not be negative"),
        ({"teacher_temperature": 0.0}, "teacher_temperature=0.0: must be positive"),
        ({"student_temperature_start": -1.0}, "student_temperature_start=-1.0: must be positive"),
        ({"weight_ramp": 0.0}, "weight_ramp=0.0"),
        ({"temperature_ramp": 1.5}, "temperature_ramp=1.5"),
        ({"prior_weight": 2.0}, "only memax has a weight"),
        ({"prior_strength": 2.0}, "prior_strength=2.0"),
        ({"space": SPACE._replace(category=2 * SPACE.category)}, "category vectors are not unit rows"),
        ({"space": SPACE._replace(category=SPACE.category[:3])}, "row-aligned"),
    ],
)
def test_options_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(VidsslError, match=message) as caught:
        ConceptObjective(**{"space": SPACE, **arguments})
    assert "\n" not in str(caught.value)


def test_missing_or_foreign_features_are_named() -> None:
    with pytest.raises(VidsslError, match="teacher"):
        ConceptObjective(SPACE)(rows(2))
    with pytest.raises(VidsslError, match=r"D = 4"):
        ConceptObjective(SPACE)([torch.rand(3, 6)] * 2, [torch.rand(3, 6)] * 2)
