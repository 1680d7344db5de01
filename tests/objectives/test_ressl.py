"""ReSSL against NumPy loops, and the life of its queue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from tests.distributed_runner import run_on_processes
from vidssl.errors import VidsslError
from vidssl.models.heads import HeadOutput
from vidssl.objectives import ressl as ressl_module
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.composite import Composite
from vidssl.objectives.ressl import ReSSL, ressl_loss


def unit(n: int, d: int, seed: int = 0) -> Tensor:
    return normalize(
        torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1
    )


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def expected(q: Tensor, k: Tensor, banks: list[np.ndarray], t_s: float = 0.1, t_t: float = 0.04) -> float:
    """`banks[i]`: the rows that row i is related to."""
    values = []
    for student, teacher, bank in zip(q.detach().numpy(), k.numpy(), banks, strict=True):
        target, guess = softmax(bank @ teacher / t_t), softmax(bank @ student / t_s)
        values.append(-(target * np.log(guess)).sum())
    return float(np.mean(values))


@settings(max_examples=25, deadline=None)
@given(b=st.integers(1, 5), d=st.integers(1, 6), size=st.integers(1, 9), t_s=st.floats(0.05, 1.0))
def test_loss_equals_its_definition(b: int, d: int, size: int, t_s: float) -> None:
    q, k, queue = unit(b, d, 1), unit(b, d, 2), unit(size, d, 3)
    loss = ressl_loss(q, k, queue, t_s, 0.04)
    assert loss.item() == pytest.approx(expected(q, k, [queue.numpy()] * b, t_s), abs=1e-10)


def test_gradient_goes_to_the_student_only() -> None:
    q, k, queue = (unit(n, 3, n).requires_grad_() for n in (4, 4, 6))
    assert torch.autograd.gradcheck(lambda x: ressl_loss(x, k, queue), (q,))
    ressl_loss(q, k, queue).backward()
    assert q.grad is not None
    assert k.grad is None
    assert queue.grad is None


def test_mask_leaves_entries_out() -> None:
    q, k, queue = unit(3, 4, 1).requires_grad_(), unit(3, 4, 2), unit(6, 4, 3)
    mask = torch.tensor([[True, False, True, True, False, True]] * 2 + [[False] * 6])
    loss = ressl_loss(q, k, queue, mask=mask)
    kept = queue[mask[0]].numpy()
    assert loss.item() == pytest.approx(expected(q[:2], k[:2], [kept] * 2), abs=1e-12)
    loss.backward()
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()
    assert (q.grad[2] == 0).all()
    assert torch.autograd.gradcheck(lambda x: ressl_loss(x, k, queue, mask=mask), (q,))


def test_sharp_targets_approach_the_nearest_entry() -> None:
    q, k, queue = unit(3, 4, 1), unit(3, 4, 2), unit(6, 4, 3)
    nearest = (k @ queue.T).argmax(dim=1)
    cross_entropy = torch.nn.functional.cross_entropy(q @ queue.T / 0.1, nearest)
    assert ressl_loss(q, k, queue, 0.1, 1e-4).item() == pytest.approx(cross_entropy.item(), abs=1e-6)


def test_step_order_logits_on_the_old_queue_then_enqueue() -> None:
    objective = ReSSL(dim=3, queue_size=5).double()
    old = objective.queue.clone()
    torch.testing.assert_close(old.norm(dim=1), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-6)
    q, k = unit(2, 3, 1).requires_grad_(), unit(2, 3, 2)
    output = objective([HeadOutput(q.detach(), 4 * q, None)], [HeadOutput(3 * k, None, None)])
    assert output.loss.item() == pytest.approx(expected(q, k, [old.numpy()] * 2), abs=1e-9)
    torch.testing.assert_close(objective.queue[:2], k)
    torch.testing.assert_close(objective.queue[2:], old[2:], rtol=0, atol=0)
    assert int(objective.pointer) == 2
    output.loss.backward()  # the queue has changed since; the backward pass must not notice
    manual = q.detach().clone().requires_grad_()
    ressl_loss(normalize(manual, dim=1), k, old).backward()
    torch.testing.assert_close(q.grad, manual.grad)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 7), batches=st.lists(st.integers(1, 10), min_size=1, max_size=5))
def test_queue_wraps_around_for_any_sizes(size: int, batches: list[int]) -> None:
    objective = ReSSL(dim=2, queue_size=size).double()
    model = [row.clone() for row in objective.queue]
    place = 0
    for number, b in enumerate(batches):
        keys = unit(b, 2, number)
        objective.enqueue(keys)
        for row in keys:
            model[place] = row
            place = (place + 1) % size
    torch.testing.assert_close(objective.queue, torch.stack(model), rtol=0, atol=0)
    assert int(objective.pointer) == place


def test_keys_of_the_batch_without_the_own_video() -> None:
    objective = ReSSL(dim=3, queue_size=4, use_keys=True).double()
    queue = objective.queue.numpy().copy()
    q, k = unit(4, 3, 1), unit(4, 3, 2)
    ids = torch.tensor([5, 6, 5, 7])
    banks = [np.concatenate([queue, k[ids != ids[i]].numpy()]) for i in range(4)]
    loss = objective([q], [k], BatchInfo(ids)).loss.item()
    assert loss == pytest.approx(expected(q, k, banks), abs=1e-9)


def test_unfilled_entries_can_be_left_out() -> None:
    objective = ReSSL(dim=3, queue_size=6, ignore_unfilled=True).double()
    first, second = unit(2, 3, 1), unit(2, 3, 2)
    empty = objective([first.requires_grad_()], [first.detach()])
    assert empty.loss.item() == 0
    empty.loss.backward()
    loss = objective([second], [unit(2, 3, 5)]).loss.item()
    assert loss == pytest.approx(expected(second, unit(2, 3, 5), [first.detach().numpy()] * 2), abs=1e-9)


def test_several_crops_are_averaged_and_the_same_view_is_skipped() -> None:
    objective = ReSSL(dim=3, queue_size=6).double().eval()
    queue = objective.queue.numpy().copy()
    crops, key = [unit(2, 3, seed) for seed in range(3)], unit(2, 3, 9)
    values = [expected(crop, key, [queue] * 2) for crop in crops]
    # The teacher's only view is the first: the student's view of the same crop is left out.
    assert objective(crops, [key]).loss.item() == pytest.approx(np.mean(values[1:]), abs=1e-9)
    batch = BatchInfo(torch.arange(2), teacher_views=(7,))
    assert objective(crops, [key], batch).loss.item() == pytest.approx(np.mean(values), abs=1e-9)
    assert np.array_equal(objective.queue.numpy(), queue)  # in eval mode nothing is enqueued


def test_queue_survives_a_checkpoint_bit_for_bit() -> None:
    first = ReSSL(dim=3, queue_size=5)
    first([unit(3, 3).float()], [unit(3, 3, 1).float()])
    resumed = ReSSL(dim=3, queue_size=5, seed=9)
    assert not torch.equal(first.queue, resumed.queue)
    resumed.load_state_dict(first.state_dict())
    for seed in range(3):
        q, k = unit(4, 3, seed).float(), unit(4, 3, seed + 20).float()
        assert torch.equal(first([q], [k]).loss, resumed([q], [k]).loss)
    assert torch.equal(first.queue, resumed.queue)
    assert torch.equal(first.pointer, resumed.pointer)


def test_seed_of_the_first_queue() -> None:
    assert torch.equal(ReSSL(3, 5, seed=1).queue, ReSSL(3, 5, seed=1).queue)
    assert not torch.equal(ReSSL(3, 5, seed=1).queue, ReSSL(3, 5, seed=2).queue)


def test_autocast_gives_float32() -> None:
    q, k = unit(4, 3).to(torch.bfloat16), unit(4, 3, 1).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ReSSL(3, 5)([q], [k]).loss
    assert loss.dtype == torch.float32
    assert loss.item() == ReSSL(3, 5)([q.float()], [k.float()]).loss.item()


def test_mistakes_are_named() -> None:
    with pytest.raises(VidsslError, match="teacher"):
        ReSSL(3)([unit(2, 3)])
    with pytest.raises(VidsslError, match="queue_size=0"):
        ReSSL(3, queue_size=0)
    with pytest.raises(VidsslError, match=r"queue \(K, d\)"):
        ressl_loss(unit(2, 3), unit(2, 3), unit(4, 2))
    with pytest.raises(VidsslError, match="must be positive"):
        ressl_loss(unit(2, 3), unit(2, 3), unit(4, 3), student_temperature=0)


def related_rows(counts: tuple[int, ...]) -> tuple[list[int], Tensor, Tensor]:
    """How many rows each call compared with the queue, the loss, and the gradient of the own rows."""
    seen, original = [], ressl_module.relation_sums

    def counted(q: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        seen.append(len(q))
        return original(q, *arguments)

    ressl_module.relation_sums = counted  # type: ignore[assignment]
    try:
        first, n = sum(counts[: dist.get_rank()]), counts[dist.get_rank()]
        views = [unit(6, 4, seed)[first : first + n].requires_grad_() for seed in range(2)]
        composite = Composite({"ressl": ReSSL(dim=4, queue_size=9).double()})
        outputs = {"ressl": [HeadOutput(view, None, None) for view in views]}
        loss = composite(outputs, outputs, BatchInfo(torch.arange(n) + first)).loss
        loss.backward()
    finally:
        ressl_module.relation_sums = original
    return seen, loss.detach(), torch.stack([v.grad for v in views if v.grad is not None]) / len(counts)


def test_every_process_relates_its_own_rows_and_all_have_the_loss_of_all() -> None:
    ((_, loss, gradient),) = run_on_processes(related_rows, 1, (6,))
    parts = run_on_processes(related_rows, 2, (4, 2))
    for (seen, found, _), n in zip(parts, (4, 2), strict=True):
        assert seen == [n, n]
        torch.testing.assert_close(found, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.cat([g for _, _, g in parts], dim=1), gradient, rtol=1e-12, atol=1e-15)
