"""The exponential moving average of the student."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import vidssl
from vidssl.errors import VidsslError
from vidssl.models.batch_norm import GlobalBatchNorm1d
from vidssl.models.encoder import VideoEncoder
from vidssl.models.teacher import Teacher, cosine_momentum


def student_module() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), GlobalBatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 2))


def disturb(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def test_starts_equal_and_without_gradient() -> None:
    student = student_module()
    teacher = Teacher(student)
    for own, other in zip(teacher.module.parameters(), student.parameters(), strict=True):
        assert torch.equal(own, other)
        assert own is not other
        assert not own.requires_grad
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert not teacher(torch.randn(3, 4, requires_grad=True)).requires_grad


def test_update_is_the_recurrence() -> None:
    student = student_module()
    teacher = Teacher(student)
    expected: list[Any] = [parameter.detach().double() for parameter in student.parameters()]
    for step, momentum in enumerate((0.9, 0.5, 0.996)):
        disturb(student, step)
        student(torch.randn(6, 4))
        teacher.update(student, momentum)
        expected = [
            momentum * own + (1 - momentum) * new.detach().double()
            for own, new in zip(expected, student.parameters(), strict=True)
        ]
        for own, wanted in zip(teacher.module.parameters(), expected, strict=True):
            torch.testing.assert_close(own.double(), wanted, atol=1e-6, rtol=1e-6)
        for copied, buffer in zip(teacher.module.buffers(), student.buffers(), strict=True):
            assert torch.equal(copied, buffer)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_extreme_momenta_are_exact(momentum: float) -> None:
    student = student_module()
    teacher = Teacher(student)
    before = copy.deepcopy(teacher.module.state_dict())
    disturb(student, 1)
    teacher.update(student, momentum)
    wanted = before if momentum == 1.0 else student.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in teacher.module.state_dict().items())


def test_half_precision_students_have_a_float32_teacher() -> None:
    student = student_module().to(torch.bfloat16)
    teacher = Teacher(student)
    assert all(parameter.dtype == torch.float32 for parameter in teacher.module.parameters())
    start: Any = next(teacher.module.parameters()).detach().clone()
    disturb(student, 1)
    for _ in range(10):
        teacher.update(student, 0.9999)  # in bfloat16 each of these steps would round to nothing
    share = (next(teacher.module.parameters()) - start) / (next(student.parameters()).float() - start)
    torch.testing.assert_close(share.mean().item(), 1 - 0.9999**10, rtol=0.02, atol=0)


def test_modes() -> None:
    x = torch.randn(6, 4)
    student = student_module().train()
    teacher = Teacher(student)
    norm, dropout = teacher.module[1], teacher.module[2]  # type: ignore[index]
    assert norm.training
    assert not dropout.training
    hidden = teacher.module[0](x)  # type: ignore[index]
    batch = (hidden - hidden.mean(0)) / torch.sqrt(hidden.var(0, unbiased=False) + norm.eps)
    torch.testing.assert_close(teacher(x), teacher.module[3](batch), atol=1e-5, rtol=0)  # type: ignore[index]
    teacher.eval()
    assert not norm.training
    still = Teacher(student, train_mode_norm=False).train()
    assert not any(module.training for module in still.module.modules())
    assert torch.equal(still(x), still(x))


def test_follows_a_wrapped_student_and_refuses_another() -> None:
    student = student_module()
    teacher = Teacher(student)
    disturb(student, 1)
    wrapper: Any = nn.Module()
    wrapper.module = student
    teacher.update(wrapper, 0.0)
    assert torch.equal(next(teacher.module.parameters()), next(student.parameters()))
    with pytest.raises(VidsslError, match="not those"):
        teacher.update(nn.Linear(4, 5), 0.5)
    for momentum in (-0.1, 1.1, math.nan):
        with pytest.raises(VidsslError, match="momentum"):
            teacher.update(student, momentum)


def test_shares_the_text_tower_of_an_encoder(tiny_clip: Path) -> None:
    encoder = vidssl.create_model(f"local-dir:{tiny_clip}")
    teacher = Teacher(encoder)
    assert isinstance(teacher.module, VideoEncoder)
    assert teacher.module.text is encoder.text
    assert not any("token_embedding" in key for key in teacher.state_dict())
    clips = torch.randn(1, 3, 2, 32, 32)
    torch.testing.assert_close(teacher(clips).clip, encoder(clips).clip, atol=1e-5, rtol=0)


def test_cosine_momentum() -> None:
    assert cosine_momentum(0, 100, 0.99) == pytest.approx(0.99)
    assert cosine_momentum(50, 100, 0.99) == pytest.approx(0.995)
    assert cosine_momentum(100, 100, 0.99) == 1.0
    assert cosine_momentum(25, 100, 0.9) == pytest.approx(1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2)
    assert cosine_momentum(200, 100, 0.99, final=0.999) == pytest.approx(0.999)
    assert cosine_momentum(0, 0, 0.99) == 1.0


@settings(max_examples=25, deadline=None)
@given(total=st.integers(1, 1000), base=st.floats(0, 1), data=st.data())
def test_cosine_momentum_rises(total: int, base: float, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, total - 1))
    low, high = cosine_momentum(step, total, base), cosine_momentum(step + 1, total, base)
    assert base - 1e-12 <= low <= high + 1e-12 <= 1 + 2e-12


def test_what_is_frozen_is_held_once_and_stays() -> None:
    student = student_module()
    frozen, learning = list(student.parameters())[:2], list(student.parameters())[2:]
    for parameter in frozen:
        parameter.requires_grad_(False)
    teacher = Teacher(student)
    own = list(teacher.module.parameters())
    assert all(a is b for a, b in zip(own[:2], frozen, strict=True))
    assert not {id(p) for p in own[2:]} & {id(p) for p in learning}
    before = [p.clone() for p in own]
    with torch.no_grad():
        for parameter in learning:
            parameter.add_(1.0)
    teacher.update(student, 0.75)
    for place, (old, new) in enumerate(zip(before, teacher.module.parameters(), strict=True)):
        torch.testing.assert_close(new, old + (0.25 if place >= 2 else 0.0))


def test_the_statistics_of_frozen_batch_norm_are_held_once_and_all_others_are_copied() -> None:
    student = nn.Sequential(student_module(), GlobalBatchNorm1d(2), nn.BatchNorm1d(2, affine=False))
    frozen = cast(GlobalBatchNorm1d, student[1])
    frozen.requires_grad_(False).eval()
    teacher = Teacher(student)
    theirs, ours = dict(teacher.module.named_buffers()), dict(student.named_buffers())
    once = {name for name, x in theirs.items() if x is ours[name]}
    assert once == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    student(torch.randn(6, 4))
    assert frozen.num_batches_tracked == 0
    student.eval()  # in whatever mode the student is when the average moves
    teacher.update(student, 0.5)
    assert ours["0.1.num_batches_tracked"] == 1
    assert all(torch.equal(x, ours[name]) for name, x in theirs.items())
    moved = copy.deepcopy(teacher)  # no longer the same tensors, as after a move to another device
    frozen.running_mean += 1.0
    moved.update(student, 0.5)
    assert torch.equal(dict(moved.module.named_buffers())["1.running_mean"], ours["1.running_mean"])
