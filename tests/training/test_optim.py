from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import vidssl
from tests.tiny_clip import tiny_config, write_tiny_clip
from tests.tiny_towers import write_tower
from vidssl.config import TrainConfig
from vidssl.errors import VidsslError
from vidssl.models.student import Student
from vidssl.models.teacher import Teacher, cosine_momentum
from vidssl.objectives.composite import build_objectives
from vidssl.training.optim import (
    freeze_parameters,
    is_temporal,
    learning_rate,
    make_optimizer,
    parameter_groups,
)


def test_schedule_rises_then_falls_to_the_final_rate():
    rates = [learning_rate(s, 100, recipe(warmup=0.1, min_lr=0.01)) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == 1.0 == max(rates)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[99] == pytest.approx(0.01)
    middle = 0.01 + 0.99 * (1 + math.cos(math.pi * 0.5)) / 2
    assert rates[54] == pytest.approx(middle)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_very_short_runs_have_finite_rates(total):
    for step in range(total):
        assert 0 < learning_rate(step, total, recipe(warmup=0.05, min_lr=1e-6)) <= 1.0


def test_short_runs_warm_up_too_unless_told_not_to():
    rates = [learning_rate(s, 40, recipe(warmup=0.05, min_lr=0.0)) for s in range(40)]
    assert rates[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert learning_rate(0, 40, recipe(warmup=0.0, min_lr=0.0)) == 1.0


@pytest.fixture(scope="module")
def clip_student(tmp_path_factory: pytest.TempPathFactory) -> Student:
    """A tiny CLIP with three blocks, attention over time and a head."""
    folder = write_tiny_clip(tmp_path_factory.mktemp("clip"), tiny_config(layers=3))
    return Student(vidssl.create_model(f"local-dir:{folder}"), {"head": nn.Linear(4, 4)})


@pytest.fixture
def fresh(clip_student: Student) -> Student:
    return copy.deepcopy(clip_student).requires_grad_(True)


def recipe(**options) -> TrainConfig:
    return TrainConfig(**{"steps": 1, "lr": 1.0, "weight_decay": 0.1, "pretrained_lr_scale": 0.1, **options})


def rates(student: Student, pretrained: bool = True, **options) -> dict[str, float]:
    """Name -> factor on the schedule, of every parameter that an optimiser would get."""
    train = recipe(**options)
    names = {id(parameter): name for name, parameter in student.named_parameters()}
    groups = parameter_groups(student, [], train, pretrained)
    assert all(group["lr"] == train.lr * group["lr_scale"] for group in groups)
    return {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}


def test_a_block_learns_at_the_decay_to_the_power_of_its_distance_from_the_output(fresh):
    d = 0.65
    expected = {
        "encoder.visual.conv1.weight": d**3,
        "encoder.visual.class_embedding": d**3,
        "encoder.visual.positional_embedding": d**3,
        "encoder.visual.ln_pre.bias": d**3,
        "encoder.visual.transformer.resblocks.0.attn.in_proj_weight": d**2,
        "encoder.visual.transformer.resblocks.1.mlp.c_proj.weight": d,
        "encoder.visual.transformer.resblocks.2.ln_1.weight": 1.0,
        "encoder.visual.ln_post.weight": 1.0,
        "encoder.visual.proj": 1.0,
    }
    found = rates(fresh, layer_decay=d)
    for name, factor in expected.items():
        assert found[name] == pytest.approx(0.1 * factor, rel=1e-12), name
    new = [name for name in found if "temporal" in name or "time_embedding" in name or "heads" in name]
    assert len(new) == 3 * 8 + 1 + 2
    assert {found[name] for name in new} == {1.0}
    assert set(found) == {name for name, _ in fresh.named_parameters()}


def test_no_decay_is_one_rate_for_all_that_was_loaded(fresh):
    loaded = {rate for name, rate in rates(fresh).items() if name.startswith("encoder.visual.")}
    assert loaded == {0.1}
    assert set(rates(fresh, pretrained=False).values()) == {1.0}


def test_weight_decay_spares_vectors_and_embeddings_at_every_depth(fresh):
    names = {id(parameter): name for name, parameter in fresh.named_parameters()}
    groups = parameter_groups(fresh, [], recipe(layer_decay=0.7), pretrained=True)
    for group in groups:
        for parameter in group["params"]:
            spared = parameter.ndim < 2 or "embed" in names[id(parameter)]
            assert group["weight_decay"] == (0.0 if spared else 0.1), names[id(parameter)]


def test_decay_is_refused_where_it_would_mean_nothing(fresh):
    convolutions = Student(vidssl.create_model("pytorchvideo/x3d_xs"), {})
    with pytest.raises(VidsslError, match="no image transformer"):
        rates(convolutions, layer_decay=0.7)
    with pytest.raises(VidsslError, match="pretrained weights"):
        rates(fresh, layer_decay=0.7, pretrained=False)


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ("none", lambda name: True),
        ("projection", lambda name: not name.startswith(("visual.proj", "visual.ln_post."))),
        ("all_but_temporal", lambda name: name.startswith(("temporal.", "time_embedding"))),
    ],
)
def test_what_each_freeze_leaves_to_train(fresh, freeze, trained):
    freeze_parameters(fresh, freeze)
    for name, parameter in fresh.encoder.named_parameters():
        assert parameter.requires_grad == trained(name), name
    assert all(parameter.requires_grad for parameter in fresh.heads.parameters())
    # and the optimiser gets exactly those
    encoder = {name.removeprefix("encoder.") for name in rates(fresh) if name.startswith("encoder.")}
    assert encoder == {name for name, _ in fresh.encoder.named_parameters() if trained(name)}


def test_frozen_parts_stay_and_the_others_move(fresh):
    freeze_parameters(fresh, "projection")
    before = copy.deepcopy(fresh.encoder.state_dict())
    groups = parameter_groups(fresh, [], recipe(lr=0.01, pretrained_lr_scale=1.0), pretrained=True)
    optimizer = torch.optim.AdamW(groups)
    for _ in range(2):  # what lies behind the zero maps of attention over time moves from the second step on
        fresh.encoder(torch.randn(2, 3, 2, 32, 32)).clip.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, value in fresh.encoder.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(("visual.proj", "visual.ln_post.")), name


def test_the_text_tower_is_never_trained(fresh):
    text = fresh.encoder.text
    assert text is not None
    freeze_parameters(fresh, "none")
    assert not any(parameter.requires_grad for parameter in text.tower.parameters())
    assert not {id(p) for p in text.tower.parameters()} & {id(p) for p in fresh.parameters()}


def test_a_freeze_that_does_not_fit_is_refused(tiny_clip):
    frames = Student(vidssl.create_model(f"local-dir:{tiny_clip}", temporal="none"), {})
    with pytest.raises(VidsslError, match="all_but_temporal: this encoder has no attention over time"):
        freeze_parameters(frames, "all_but_temporal")
    convolutions = Student(vidssl.create_model("pytorchvideo/x3d_xs"), {})
    with pytest.raises(VidsslError, match="projection: this encoder has no projection"):
        freeze_parameters(convolutions, "projection")


def test_a_scale_of_zero_freezes_what_was_pretrained(fresh):
    """It would otherwise gather gradients that nobody takes away, and that count in the norm for clipping."""
    fresh.encoder.spec["pretrained"] = "somewhere"
    freeze_parameters(fresh, "none", pretrained_lr_scale=0.0)
    trained = {name for name, parameter in fresh.encoder.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in fresh.encoder.named_parameters() if is_temporal(name)} != set()
    assert all(parameter.requires_grad for parameter in fresh.heads.parameters())
    assert {scale > 0 for scale in rates(fresh, pretrained_lr_scale=0.0).values()} == {True}
    freeze_parameters(fresh, "projection", pretrained_lr_scale=0.0)
    assert trained == {
        name for name, parameter in fresh.encoder.named_parameters() if parameter.requires_grad
    }


def test_a_scale_of_zero_that_leaves_nothing_is_refused(tiny_clip):
    source = f"local-dir:{tiny_clip}"
    frames = Student(vidssl.create_model(source, source, temporal="none"), {})
    with pytest.raises(VidsslError, match="pretrained_lr_scale=0: leaves nothing"):
        freeze_parameters(frames, "none", pretrained_lr_scale=0.0)


def test_momentum_one_is_a_frozen_teacher(fresh):
    teacher = Teacher(fresh)
    before = copy.deepcopy(teacher.module.state_dict())
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1.0)
    teacher.update(fresh, cosine_momentum(3, 10, 1.0, 1.0))
    assert all(torch.equal(value, before[name]) for name, value in teacher.module.state_dict().items())


def test_lars_steps_follow_its_formula(fresh):
    """Two steps: matrices at 1e-3 |w| / (|g| + decay |w|) of the rate, vectors and the bandwidth at their own."""
    objective, _ = build_objectives({"hsic": {}}, 4)
    train = recipe(optimizer="lars", lr=2.0, weight_decay=0.1, betas=(0.9, 0.98), pretrained_lr_scale=1.0)
    optimizer = make_optimizer(fresh, objective, train)
    scale = objective.objectives["hsic"].scale
    matrix, vector = fresh.heads["head"].weight, fresh.heads["head"].bias
    chosen = {matrix: (2.0, 0.1), vector: (2.0, 0.0), scale: (3e-4, 0.0)}
    expected = {p: p.detach().clone() for p in chosen}
    moved = {p: torch.zeros_like(p) for p in chosen}
    for step in range(2):
        for p, (rate, decay) in chosen.items():
            p.grad = torch.full_like(p, 0.5 - step)
            gradient = p.grad.clone()
            if decay:
                w, g = expected[p].norm(), gradient.norm()
                gradient = 1e-3 * w / (g + decay * w + 1e-8) * (gradient + decay * expected[p])
            moved[p] = 0.9 * moved[p] + gradient
            expected[p] = expected[p] - rate * moved[p]
        optimizer.step()
    for p in chosen:
        torch.testing.assert_close(p.detach(), expected[p])


def test_lars_without_decay_is_refused(fresh):
    objective, _ = build_objectives({"hsic": {}}, 4)
    with pytest.raises(VidsslError, match=r"set train\.weight_decay above 0"):
        make_optimizer(fresh, objective, recipe(optimizer="lars", weight_decay=0.0))


def test_a_frozen_image_model_keeps_its_batch_statistics(tmp_path):
    place = write_tower(tmp_path / "resnet", "resnet")
    clips = torch.randn(2, 3, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    for freeze, still in (("all_but_temporal", True), ("none", False)):
        torch.manual_seed(0)
        encoder = vidssl.create_model(f"local-dir:{place}", temporal="head", load_text=False)
        student = Student(encoder, {})
        freeze_parameters(student, freeze)
        student.train()
        teacher = Teacher(student)
        before = {name: x.clone() for name, x in encoder.named_buffers()}
        shown = student([clips]).features[0].frames
        told = teacher([clips]).features[0].frames
        assert all(torch.equal(x, before[name]) for name, x in encoder.named_buffers()) == still
        student.eval()
        plain = student([clips]).features[0].frames
        assert torch.allclose(shown, plain, atol=1e-5) == still
        assert torch.allclose(told, plain, atol=1e-5) == still
