"""Building objectives from plain data, their weighted sum, and what reaches which parameter."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vidssl.errors import VidsslError
from vidssl.models.encoder import ClipFeatures
from vidssl.models.heads import HeadOutput
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.composite import OBJECTIVES, build_objectives
from vidssl.objectives.hsic import SSLHSIC
from vidssl.objectives.spectral import SpectralContrastive

FROM_LIGHTLY = {"infonce", "byol", "simsiam", "vicreg", "barlow", "dino"}


def features(b: int = 4, k: int = 2, t: int = 3, d: int = 6) -> list[ClipFeatures]:
    generator = torch.Generator().manual_seed(0)
    return [
        ClipFeatures(
            torch.randn(b, d, generator=generator).requires_grad_(),
            torch.randn(b, t, d, generator=generator).requires_grad_(),
            None,
        )
        for _ in range(k)
    ]


def concept_space(**words: Any) -> Any:
    """Five concepts in six dimensions; remembers what it was asked for."""
    vectors = torch.eye(6)[:5]
    sentences, counts = torch.stack([vectors, vectors.flip(0)], dim=1), torch.full((len(vectors),), 2)
    return SimpleNamespace(
        category=vectors,
        description=vectors.flip(0),
        sentences=sentences,
        counts=counts,
        sha256="ab" * 32,
        words=words,
    )


def run(spec: dict[str, dict[str, Any] | None], batch: BatchInfo | None = None) -> Any:
    torch.manual_seed(0)
    composite, heads = build_objectives(spec, 6, concept_space)
    outputs = {name: [head(view) for view in features()] for name, head in heads.items()}
    batch = batch or BatchInfo(torch.arange(4), [torch.arange(3.0).expand(4, 3)] * 2)
    if composite.needs_anchor_frames:
        batch = batch._replace(anchor_frames=[view.frames for view in features()])
    return composite, heads, outputs, composite(outputs, outputs, batch)


def test_weighted_sum_and_logs_under_the_names() -> None:
    spec = {
        "hsic": {"weight": 2, "gamma": 1.5, "projector": [5, 3]},
        "wide": {"objective": "spectral", "mu": 3.0},
    }
    composite, _, outputs, output = run(spec)
    batch = BatchInfo(torch.arange(4))
    hsic = SSLHSIC(gamma=1.5)(outputs["hsic"], outputs["hsic"], batch).loss
    spectral = SpectralContrastive(mu=3.0)(outputs["wide"], None, batch).loss
    assert output.loss.item() == pytest.approx((2 * hsic + spectral).item(), abs=1e-6)
    assert output.logs["hsic/loss"].item() == pytest.approx(hsic.item(), abs=1e-6)
    assert output.logs["wide/loss"].item() == pytest.approx(spectral.item(), abs=1e-6)
    assert output.logs["loss"].item() == pytest.approx(output.loss.item())
    assert {"hsic/hsic_xx", "hsic/effective_rank", "hsic/scale"} <= set(output.logs)
    assert not any(value.requires_grad for value in output.logs.values())
    assert composite.needs_teacher
    assert not build_objectives({"hsic": {"target": False}}, 6)[0].needs_teacher


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_builds_and_reaches_all_of_its_head(name: str) -> None:
    if name in FROM_LIGHTLY:
        pytest.importorskip("lightly.loss", reason="lightly is an optional extra")
    composite, heads, _, output = run({name: {"projector": [8, 4]} if name == "ldm" else {}})
    output.loss.backward()
    for parameter_name, parameter in heads[name].named_parameters():
        assert parameter.grad is not None, parameter_name
    for parameter_name, parameter in composite.named_parameters():
        assert parameter.grad is not None, parameter_name
    grouped = [p for group in composite.param_groups() for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in composite.parameters()}
    assert f"{name}/loss" in output.logs
    composite.set_progress(0.5)


@pytest.mark.parametrize("target", [True, False])
def test_frame_level_objective_uses_every_weight_of_its_head(target: bool) -> None:
    batch = BatchInfo(torch.arange(4), [torch.rand(4, 6) for _ in range(2)])
    spec = {"frames": {"objective": "hsic", "frames": True, "time_width": 1.0, "target": target}}
    _, heads, outputs, output = run(spec, batch)
    output.loss.backward()
    assert all(p.grad is not None for p in heads["frames"].parameters())
    assert outputs["frames"][0].frames.shape == (4, 3, 128)
    assert (heads["frames"].predictor is not None) == target


def test_head_options_reach_the_head() -> None:
    _, heads = build_objectives({"hsic": {"projector": [8, 4], "predictor": [5, 4], "norm": "layer"}}, 6)
    output: HeadOutput = heads["hsic"](features()[0])
    assert output.projection.shape == (4, 4)
    assert output.prediction is not None
    assert not any("running_mean" in name for name, _ in heads["hsic"].named_buffers())
    _, plain = build_objectives({"hsic": {"target": False}}, 6)
    assert plain["hsic"](features()[0]).prediction is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"hsci": {}}, "objective 'hsci': unknown; did you mean 'hsic'"),
        ({"a": {"objective": "spectrl"}}, "did you mean 'spectral'"),
        (
            {"hsic": {"estimater": "rff"}},
            "objective.hsic.estimater: unknown option; did you mean 'estimator'",
        ),
        ({"hsic": {"estimator": "rf"}}, "objective.hsic: estimator='rf': unknown; did you mean 'rff'"),
        ({"ressl": {"dim": 3}}, "objective.ressl.dim: unknown option"),
        ({"hsic": {"projector": []}}, "objective.hsic.projector: needs at least one layer"),
        ({"hsic": {"weight": "much"}}, "objective.hsic.weight='much': must be a number"),
        ({"hsic": {"gamma": "3"}}, "objective.hsic.gamma='3': must be a number"),
        ({"hsic": {"num_features": 2.5}}, "objective.hsic.num_features=2.5: must be a whole number"),
        ({"hsic": {"frames": 1}}, "objective.hsic.frames=1: must be true or false"),
        ({"hsic": {"estimator": 3}}, "objective.hsic.estimator=3: must be a word"),
        ({"hsic": {"pool_frames": 2}}, "objective.hsic: pool_frames: is for objectives that read frames"),
        ({"dino": {"prototypes": -1}}, "objective.dino.prototypes=-1: must be a whole number of at least 1"),
        ({"dino": {"prototypes": "64"}}, "objective.dino.prototypes='64': must be a whole number"),
        ({"hsic": {"projector": 8}}, "objective.hsic.projector=8: must be a list of whole numbers"),
        ({"hsic": {"predictor": [8, 0.5]}}, "objective.hsic.predictor=[8, 0.5]: must be a list of whole"),
        ({"hsic": {"last_norm": "yes"}}, "objective.hsic.last_norm='yes': must be true or false"),
        ({"hsic": {"norm": 1}}, "objective.hsic.norm=1: must be a word"),
        ({"ldm": {"pool_frames": 0}}, "objective.ldm.pool_frames=0: must be a whole number of at least 1"),
        ({"ldm": {"prototypes": 8}}, "objective.ldm: prototypes: is for objectives that read clips"),
        ({"concept": {}}, "objective.concept: needs an encoder with a text tower"),
        ({"concept": {"projector": [4]}}, "objective.concept.projector: unknown option"),
        ({"hsic": {"vocabulary": "k400"}}, "objective.hsic.vocabulary: unknown option"),
        ({}, "at least one"),
    ],
)
def test_mistakes_are_one_line(spec: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(VidsslError) as caught:
        build_objectives(spec, 6)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_simsiams_predictor_is_a_bottleneck_of_any_projection() -> None:
    pytest.importorskip("lightly.loss", reason="lightly is an optional extra")
    for spec, sizes in (({}, (1024, 256, 1024)), ({"projector": [12, 8]}, (8, 2, 8))):
        head = build_objectives({"simsiam": spec}, 6)[1]["simsiam"]
        layers = [m for m in head.predictor.modules() if isinstance(m, torch.nn.Linear)]  # type: ignore[union-attr]
        assert (layers[0].in_features, *(layer.out_features for layer in layers)) == sizes


def test_concepts_get_their_space_from_the_options_of_words() -> None:
    asked: list[dict[str, Any]] = []

    def space(**words: Any) -> Any:
        asked.append(words)
        return concept_space()

    spec = {"concept": {"vocabulary": "k400+ucf101", "whiten": "zca", "sigma": 0.0}}
    composite, heads = build_objectives(spec, 6, space)
    assert asked == [{"vocabulary": "k400+ucf101", "whiten": "zca"}]
    assert not list(heads["concept"].parameters())
    assert torch.equal(heads["concept"](features()[0]).projection, features()[0].clip)
    assert dict(composite.items())["concept"].sigma == 0.0  # type: ignore[attr-defined]


def test_frames_can_be_pooled_before_the_head() -> None:
    _, heads = build_objectives({"ldm": {"projector": [8, 4], "pool_frames": 3}}, 6)
    view = features()[0]
    pooled = view._replace(frames=view.frames.mean(dim=1, keepdim=True))
    assert torch.equal(heads["ldm"](view).frames, heads["ldm"].projector(pooled.frames))
    with pytest.raises(VidsslError, match="pool_frames=2: does not divide 3 frames"):
        build_objectives({"ldm": {"pool_frames": 2}}, 6)[1]["ldm"](view)


def test_missing_outputs_are_named() -> None:
    composite, _, outputs, _ = run({"hsic": {}})
    with pytest.raises(VidsslError, match="no head of this name"):
        composite({}, None, BatchInfo(torch.arange(4)))
    with pytest.raises(VidsslError, match="needs the outputs of a teacher"):
        composite(outputs, None, BatchInfo(torch.arange(4)))
