"""Several spaces in one objective: against NumPy, own temperatures and priors, collapse seen in one space, refusals."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.objectives.concept import reference
from vidssl.errors import VidsslError
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.composite import build_objectives
from vidssl.objectives.concept.incidence import attribute_shares
from vidssl.objectives.concept.losses import concept_probs
from vidssl.objectives.concept.monitors import concept_warning, spaces_agree
from vidssl.objectives.concept.objective import ConceptObjective
from vidssl.objectives.concept.priors import build_prior
from vidssl.objectives.concept.spaces import SPACES, aligned_pairs, attribute_kinds, read_spaces

SPACE = reference.attributed_space()
ALL = ("category", "description", "scene", "motion")


def rows(views: int, b: int = 5, seed: int = 0) -> list[Tensor]:
    return [2 * reference.unit(b, 4, 10 * seed + view) for view in range(views)]


def one_way(student: list[Any], targets: list[Any], t: float) -> float:
    return reference.distillation(student, targets, t, skip=False)


def test_the_loss_of_four_spaces_equals_numpy() -> None:
    own = {
        "scene": {"teacher_temperature": 0.3, "weight": 2.0},
        "motion": {"student_temperature": 0.5, "prior": "none"},
    }
    objective = ConceptObjective(
        SPACE, distillation=0.7, alignment=1.5, sigma=0.25, student_temperature=0.2, teacher_temperature=0.1,
        spaces={name: own.get(name) for name in ALL},
    ).double()  # fmt: skip
    student, teacher = rows(3), rows(2, seed=1)
    output = objective(student, teacher, BatchInfo(torch.arange(5)))
    vectors = {"category": SPACE.category, "description": SPACE.description}
    vectors |= {name: SPACE.attributes[name].vectors for name in ("scene", "motion")}
    t_s = {"category": 0.2, "description": 0.2, "scene": 0.2, "motion": 0.5}
    t_t = {"category": 0.1, "description": 0.1, "scene": 0.3, "motion": 0.1}
    weight = {"category": 1, "description": 1, "scene": 2, "motion": 1}
    s = {name: [reference.cosines(view, vectors[name]) for view in student] for name in ALL}
    targets = {}
    for name in ALL:
        plain = [reference.cosines(view, vectors[name]) for view in teacher]
        bias: Any = np.concatenate(plain).mean(axis=0)
        if name in SPACE.attributes:
            shares = SPACE.attributes[name].incidence.double().numpy()
            shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)
            frequency = shares.sum(axis=0) / shares.sum()
            bias = bias - t_t[name] * np.log(frequency * len(frequency)) if name != "motion" else 0.0
        targets[name] = [reference.probs(view, t_t[name], bias) for view in plain]
    distillation = sum(weight[n] * reference.distillation(s[n], targets[n], t_s[n]) for n in ALL) / 5
    pairs, total = [], 0
    for a, b in (("category", "description"), ("category", "scene"), ("category", "motion"),
                 ("description", "scene"), ("description", "motion")):  # fmt: skip
        if b == "description":
            forth, back = one_way(s[b], targets[a], t_s[b]), one_way(s[a], targets[b], t_s[a])
        else:
            shares = SPACE.attributes[b].incidence.double().numpy()
            shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)
            forth = one_way(s[b], [p @ shares for p in targets[a]], t_s[b])
            said = [np.log(reference.probs(view, t_s[a]) @ shares) for view in s[a]]
            said = [x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in said]
            back = float(np.mean([-(q * x).sum(axis=1).mean() for q in targets[b] for x in said]))
        assert output.logs[f"concept/alignment_{a}_to_{b}"].item() == pytest.approx(forth, abs=1e-7)
        assert output.logs[f"concept/alignment_{b}_to_{a}"].item() == pytest.approx(back, abs=1e-7)
        pairs.append(weight[a] * weight[b] * (forth + 0.25 * back) / 1.25)
        total += weight[a] * weight[b]
    assert output.loss.item() == pytest.approx(0.7 * distillation + 1.5 * sum(pairs) / total, abs=1e-7)
    assert objective.pairs["category", "scene"] == pytest.approx(2 / total)


@pytest.mark.parametrize("prior", ["center", "log_prior", "sinkhorn", "memax", "none"])
def test_gradient_and_state_of_several_spaces(prior: str) -> None:
    objective = ConceptObjective(
        SPACE, student_temperature=0.3, teacher_temperature=0.2, prior=prior, spaces=ALL, queue_size=9
    ).double()
    for seed in range(2):
        objective(rows(2, seed=seed), rows(2, seed=seed + 5))
    objective.eval()
    student = [x.requires_grad_() for x in rows(2, 3)]
    teacher = rows(2, 3, seed=1)
    assert torch.autograd.gradcheck(lambda *x: objective(list(x), teacher).loss, tuple(student))
    again = ConceptObjective(
        SPACE, student_temperature=0.3, teacher_temperature=0.2, prior=prior, spaces=ALL, queue_size=9
    ).double()
    again.load_state_dict(objective.state_dict())
    again.eval()
    assert torch.equal(again(student, teacher).loss, objective(student, teacher).loss)
    assert not [
        key for key in objective.state_dict() if key.startswith(("shares", "scene", "motion", "category"))
    ]


def test_names_alone_are_distilled_and_align_with_nothing() -> None:
    student, teacher = rows(2), rows(2, seed=1)
    both = ConceptObjective(SPACE, student_temperature=0.2).double()(student, teacher).logs
    output = ConceptObjective(SPACE, student_temperature=0.2, spaces=["category"]).double()(student, teacher)
    assert output.loss.item() == pytest.approx(both["concept/distillation_category"].item(), abs=1e-12)
    assert not [
        key for key in output.logs if "alignment" in key or ("agree" in key and "category" not in key)
    ]
    # A space of weight 0 is only watched.
    watched = {"category": {}, "description": {"weight": 0}}
    logged = ConceptObjective(SPACE, student_temperature=0.2, spaces=watched).double()(student, teacher)
    assert (
        logged.loss.item() == pytest.approx(output.loss.item(), abs=1e-12)
        and "concept/entropy_description" in logged.logs
    )


def test_attributes_bring_two_views_of_a_video_together() -> None:
    """Learning from another space: the shuffled incidence, same numbers in all, teaches something else."""
    student, teacher = rows(2), rows(2, seed=1)

    def gradient(space: Any) -> Tensor:
        own = [x.clone().requires_grad_() for x in student]
        ConceptObjective(
            space,
            distillation=0.0,
            student_temperature=0.2,
            teacher_temperature=0.1,
            spaces=["category", "scene"],
        ).double()(own, teacher).loss.backward()
        return torch.cat([x.grad for x in own if x.grad is not None])

    kind = SPACE.attributes["scene"]
    shuffled = SimpleNamespace(vectors=kind.vectors, incidence=kind.incidence[[3, 5, 0, 6, 2, 1, 4]])
    other = SPACE._replace(attributes={"scene": shuffled})
    assert gradient(SPACE).norm() > 0.1
    assert (gradient(SPACE) - gradient(other)).norm() > 0.1 * gradient(SPACE).norm()


@pytest.mark.parametrize("prior", ["center", "log_prior", "sinkhorn"])
def test_a_prior_with_frequencies_leads_there(prior: str) -> None:
    """Targets of many videos then have these shares, and equal ones without."""
    wanted = torch.tensor([0.5, 0.2, 0.2, 0.1]).double()
    logits = 0.1 * torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)).double()
    logits += torch.tensor([0.0, 0.3, 0.1, -0.2])  # hubs
    for frequency, expected in ((wanted, wanted), (None, torch.full((4,), 0.25).double())):
        own = build_prior(prior, 4, queue_size=1, frequency=frequency).double()
        if prior != "sinkhorn":
            own.warm_start(logits, 0.2)
        mean = own([logits], 0.2)[0].mean(dim=0)
        near = 0.002 if prior == "sinkhorn" else 0.03
        np.testing.assert_allclose(mean.numpy(), expected.numpy(), atol=near)
    memax = build_prior("memax", 4, frequency=wanted).double()
    at, away = (memax.regulariser([p[None]]) for p in (wanted, torch.full((4,), 0.25).double()))
    assert at is not None and away is not None
    assert at.item() == pytest.approx(-math.log(4)) and away.item() > at.item()


def test_collapse_in_one_space_of_attributes_is_named() -> None:
    objective = ConceptObjective(
        SPACE, student_temperature=0.05, prior="none", spaces=ALL, teacher_temperature=0.01
    )
    # All videos look like the first scene.
    hub = SPACE.attributes["scene"].vectors[0]
    for seed in range(30):
        views = [hub + 0.01 * x.float() for x in rows(2, seed=seed)]
        logs = objective(views, views).logs
    warning = concept_warning({key: value.item() for key, value in logs.items()})
    assert warning is not None and "the scene space" in warning
    assert logs["concept/used_scene"] < 0.5


def test_agreement_reads_the_incidence() -> None:
    incidence = torch.tensor([[1, 0], [0, 1], [1, 1]]).float()
    p, q = torch.eye(3)[[0, 0, 1, 2]], torch.eye(2)[[0, 1, 1, 1]]
    found = spaces_agree({"category": [p], "scene": [q]}, {"scene": attribute_shares(incidence)})
    assert found == {"spaces_agree_scene": 0.75}
    assert spaces_agree({"scene": [q]}, {"scene": incidence}) == {}


def test_spaces_are_read_in_one_order() -> None:
    assert list(read_spaces(["motion", "category"])) == ["category", "motion"]
    assert attribute_kinds({"phases": None, "category": {}}) == ("phases",) and attribute_kinds(SPACES) == ()
    assert aligned_pairs(read_spaces(["scene", "motion"])) == {}
    pairs = aligned_pairs(read_spaces({"category": {"weight": 0}, "description": {}, "motion": {}}))
    assert pairs == {("description", "motion"): 1.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["categry"], "did you mean 'category'"),
        ([], "must be a list of category, description, objects"),
        ("motion", "must be a list of"),
        ({"motion": {"temperature": 1}}, "'temperature': no such option"),
        (
            {"motion": {"teacher_temperature": 0}},
            "spaces.motion.teacher_temperature=0: must be a positive number",
        ),
        ({"motion": {"weight": None}}, "spaces.motion.weight=None"),
        ({"motion": {"weight": 0}}, "all have the weight 0"),
        ({"motion": 3}, "spaces.motion 3: must be options"),
        ({"category": {"prior": "centre"}}, "did you mean 'center'"),
        (["objects"], r"no attributes of the kind objects \(it has scene, motion\)"),
    ],
)
def test_wrong_spaces_are_refused(given: Any, message: str) -> None:
    with pytest.raises(VidsslError, match=message) as caught:
        ConceptObjective(SPACE, spaces=given)
    assert "\n" not in str(caught.value)


def test_a_recipe_asks_for_the_attributes_that_it_works_in() -> None:
    asked: list[dict[str, Any]] = []

    def space(**words: Any) -> Any:
        asked.append(words)
        return SPACE

    spec = {"concept": {"spaces": ["category", "scene"], "attribute_min_count": 3}}
    objective = build_objectives(spec, 4, space)[0]
    assert asked == [{"attribute_min_count": 3, "attributes": ("scene",)}]
    assert list(dict(objective.items())["concept"].spaces) == ["category", "scene"]  # type: ignore[arg-type]
    with pytest.raises(
        VidsslError, match=r"objective.concept: spaces: 'scen': no such space; did you mean 'scene'"
    ):
        build_objectives({"concept": {"spaces": ["scen"]}}, 4, space)
    assert concept_probs(torch.zeros(2), 1.0).tolist() == [0.5, 0.5]
