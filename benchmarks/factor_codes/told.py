"""Could the network see it? The demo's architecture and view size, told the sense of spin of rendered clips."""

from __future__ import annotations

import math
import time

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

import vidssl
from vidssl.data.views.crop import squash
from vidssl.synthetic.factors.scenes import factor_clips, sample_table

CLIPS, TESTED, SIDE, BATCH = 6000, 900, 32, 64


def told(seed: int, steps: int = 800) -> dict[str, float]:
    """`conv3d/small` and a linear layer, trained on the sense of spin; accuracy and nats (see `joint`) of clips it never saw.

    Clips are turned by quarters, shifted round their circles, mirrored and played backwards, which turns the sense about.
    """
    before = time.process_time()
    table = sample_table("sprites", CLIPS, seed)
    spin = torch.from_numpy(table.values[:, table.names.index("spin")])
    rows = torch.nonzero(spin != 2)[:, 0]  # 2 is no spin
    clips, labels = (
        torch.cat([_grey(table.values, part, seed) for part in rows.split(100)]),
        (spin[rows] > 2).float(),
    )
    torch.manual_seed(seed)
    encoder, head = vidssl.create_model("conv3d/small").train(), nn.Linear(128, 1)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3, weight_decay=0.04)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps, pct_start=0.1)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = torch.randint(len(rows) - TESTED, (BATCH,), generator=draws)
        shown, wanted = _turned(clips[batch], labels[batch], draws)
        loss = F.binary_cross_entropy_with_logits(head(encoder(_normal(shown)).clip)[:, 0], wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    encoder.eval()
    with torch.inference_mode():
        logits = torch.cat([head(encoder(_normal(part)).clip)[:, 0] for part in clips[-TESTED:].split(BATCH)])
    wanted = labels[-TESTED:]
    return {
        "accuracy": ((logits > 0) == (wanted > 0)).float().mean().item(),
        "nats": math.log(2) - F.binary_cross_entropy_with_logits(logits, wanted).item(),
        "cpu_seconds": time.process_time() - before,
    }


def _grey(values: object, rows: Tensor, seed: int) -> Tensor:
    """(n, 16, SIDE, SIDE) uint8."""
    numbers = rows.tolist()
    frames = torch.from_numpy(factor_clips("sprites", values[numbers], 16, 64, seed, numbers))  # type: ignore[index]
    small = squash(rearrange(frames, "b t h w c -> (b t) h w c"), SIDE, "bicubic").float()
    grey = small @ torch.tensor([0.299, 0.587, 0.114])
    return rearrange(grey.round().byte(), "(b t) h w -> b t h w", b=len(numbers))


def _normal(clips: Tensor) -> Tensor:
    return repeat((clips.float() / 255 - 0.45) / 0.225, "b t h w -> b c t h w", c=3)


def _turned(clips: Tensor, labels: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    clips = torch.rot90(clips, int(torch.randint(4, (), generator=draws)), (2, 3))
    for axis in (3, 1):  # mirrored; backwards
        chosen = torch.rand(len(clips), generator=draws) < 0.5
        clips = torch.where(chosen[:, None, None, None], clips.flip(axis), clips)
        labels = torch.where(chosen, 1 - labels, labels)
    shifts = torch.randint(SIDE, (2,), generator=draws).tolist()
    return torch.roll(clips, shifts, (2, 3)), labels
