"""Every protocol against its transcription, the tiles against dense products, and the laws of carried labels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.evaluation.tracking import propagation_reference as reference
from vidssl.errors import VidsslError
from vidssl.evaluation.tracking import propagation
from vidssl.evaluation.tracking.presets import PRESETS
from vidssl.evaluation.tracking.propagation import propagate


def video(
    frames: int, h: int, w: int, dim: int = 5, channels: int = 3, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Random float64 features whose neighbouring frames resemble each other, and soft labels that sum to one."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(frames, dim, h, w, generator=generator, dtype=torch.float64)
    labels = torch.rand(channels, h, w, generator=generator, dtype=torch.float64)
    return steps.cumsum(0), labels / labels.sum(0)


def close(given: Tensor, wanted: Any) -> None:
    torch.testing.assert_close(given, torch.as_tensor(wanted), rtol=0, atol=1e-9)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_protocol_agrees_with_its_transcription(preset: str) -> None:
    """Longer than the context, so that frame 0 leaves it, with windows that leave out some of the grid."""
    features, labels = video(6, 4, 5)
    for radius, context in ((2, 3), (3, 5)):
        wanted = getattr(reference, preset)(features.numpy(), labels.numpy(), radius=radius, context=context)
        close(propagate(features, labels, preset, radius=radius, context=context), wanted)
    wanted = getattr(reference, preset)(features[:4].numpy(), labels.numpy())
    close(propagate(features[:4], labels, preset), wanted)


def test_keys_as_similar_as_the_last_that_counts_all_count_in_dino_alone() -> None:
    """Features of few values tie everywhere; the transcription breaks ties by order, which only dino has no need of."""
    generator = torch.Generator().manual_seed(1)
    features = torch.eye(3, dtype=torch.float64)[torch.randint(3, (5, 4, 6), generator=generator)].permute(
        0, 3, 1, 2
    )
    labels = video(1, 4, 6)[1]
    wanted = reference.dino(features.numpy(), labels.numpy(), radius=2, context=2)
    close(propagate(features, labels, radius=2, context=2), wanted)
    for preset in PRESETS:
        plain, tied = (
            propagate(features, labels, preset, radius=2, context=2, ties=ties) for ties in (False, True)
        )
        assert not torch.allclose(plain, tied)
        close(propagate(features, labels, preset, radius=2, context=2), tied if preset == "dino" else plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_do_not_depend_on_how_a_product_is_rounded(dtype: torch.dtype) -> None:
    """One vector everywhere: every key of the window counts alike, wherever its product was computed."""
    labels = video(1, 37, 29)[1].to(dtype)
    features = torch.randn(383, generator=torch.Generator().manual_seed(0), dtype=dtype)[None, :, None, None]
    soft = propagate(features.expand(2, 383, 37, 29), labels, radius=40)
    torch.testing.assert_close(
        soft[1], labels.mean((1, 2), keepdim=True).expand_as(labels), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("window", ["square", "disc"])
@pytest.mark.parametrize("radius", [0, 0.5, 1, 2.5, 6, 100])
def test_tiles_give_what_dense_products_give(
    radius: float, window: str, ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grids of odd sides, narrower and wider than a tile; a score matrix of 16 million, of a few, and of one query."""
    for h, w, scores in ((1, 23, 16_000_000), (17, 9, 16_000_000), (11, 19, 3000), (4, 5, 1)):
        features, labels = video(4, h, w, dim=4)
        monkeypatch.setattr(propagation, "SCORES", scores)
        for first_frame, restrict_first in (("once", True), ("window", True), ("padded", False)):
            changes: dict[str, Any] = {
                "radius": radius, "window": window, "restrict_first": restrict_first,
                "ties": ties, "first_frame": first_frame, "context": 2, "top_k": 4,
            }  # fmt: skip
            close(propagate(features, labels, **changes), dense(features, labels, **changes))


def dense(
    features: Tensor, labels: Tensor, *, radius: float, window: str, restrict_first: bool,
    ties: bool, first_frame: str, context: int, top_k: int,
) -> Tensor:  # fmt: skip
    """All queries with all keys, then the window."""
    frames, _, h, w = features.shape
    rows = torch.nn.functional.normalize(features.flatten(2), dim=1)
    y, x = torch.arange(h).repeat_interleave(w), torch.arange(w).repeat(h)
    dy, dx = (y[:, None] - y).abs(), (x[:, None] - x).abs()
    inside = torch.maximum(dy, dx) <= radius if window == "square" else (dy**2 + dx**2) < radius**2
    inside = inside | (radius == 0)
    soft = [labels.flatten(1)]
    for frame in range(1, frames):
        before = [
            i
            for i in range(frame - context, frame)
            if first_frame == "padded" or i > -(first_frame == "window")
        ]
        used = [0, *(max(0, i) for i in before)]
        masks = [inside | (not restrict_first), *[inside] * len(before)]
        scores = torch.cat(
            [(rows[frame].T @ rows[i]).masked_fill(~m, -torch.inf) for i, m in zip(used, masks, strict=True)],
            1,
        )
        least = scores.topk(min(top_k, scores.shape[1]), dim=1).values[:, -1:]
        if ties:
            scores = scores.masked_fill(scores < least - 1e-14, -torch.inf)
        else:
            best, at = scores.topk(min(top_k, scores.shape[1]), dim=1)
            scores = torch.full_like(scores, -torch.inf).scatter(1, at, best)
        soft.append(torch.cat([soft[i] for i in used], 1) @ (scores / 0.1).softmax(1).T)
    return torch.stack(soft).reshape(frames, -1, h, w)


@pytest.mark.parametrize("preset", PRESETS)
def test_features_that_name_the_objects_carry_their_masks_without_a_mistake(preset: str) -> None:
    """Two instances that move by whole cells over a ground, in front of each other, features one-hot in the instance."""
    scenes = torch.zeros(12, 14, 20, dtype=torch.long)
    for frame in range(12):
        scenes[frame, 2:7, frame : frame + 5] = 1
        scenes[frame, 5:10, 14 - frame : 19 - frame] = 2
    onehot = torch.eye(3)[scenes].permute(0, 3, 1, 2)
    soft = propagate(onehot, onehot[0], preset, context=3)
    assert torch.equal(soft.argmax(1), scenes)
    torch.testing.assert_close(soft, onehot)


laws = given(
    preset=st.sampled_from(sorted(PRESETS)),
    frames=st.integers(1, 5),
    size=st.tuples(st.integers(1, 9), st.integers(1, 11)),
    radius=st.sampled_from([0, 1, 2, 3.5, 12]),
    seed=st.integers(0, 10_000),
)


@settings(max_examples=20, deadline=None)
@laws
def test_labels_are_carried_channel_by_channel_and_stay_between_those_given(
    preset: str, frames: int, size: tuple[int, int], radius: float, seed: int
) -> None:
    features, labels = video(frames, *size, seed=seed)
    soft = propagate(features, labels, preset, radius=radius)
    assert soft.shape == (frames, 3, *size) and soft.dtype == torch.float64 and torch.equal(soft[0], labels)
    close(soft.sum(1), torch.ones(frames, *size, dtype=torch.float64))
    for channel, given_channel in zip(soft.unbind(1), labels, strict=True):
        assert given_channel.min() - 1e-12 <= channel.min() and channel.max() <= given_channel.max() + 1e-12
    close(propagate(features, labels[[2, 0, 1]], preset, radius=radius), soft[:, [2, 0, 1]])
    close(
        propagate(features, 3 * labels[:1] - labels[1:2], preset, radius=radius),
        3 * soft[:, :1] - soft[:, 1:2],
    )


@settings(max_examples=20, deadline=None)
@laws
def test_neither_the_norm_nor_the_future_nor_the_side_matters(
    preset: str, frames: int, size: tuple[int, int], radius: float, seed: int
) -> None:
    features, labels = video(frames, *size, seed=seed)
    soft = propagate(features, labels, preset, radius=radius)
    norms = 10 ** torch.linspace(-200, 200, frames * size[0] * size[1], dtype=torch.float64)
    close(propagate(features * norms.reshape(frames, 1, *size), labels, preset, radius=radius), soft)
    close(propagate(features[: frames // 2 + 1], labels, preset, radius=radius), soft[: frames // 2 + 1])
    close(propagate(features.mT.flip(-1), labels.mT.flip(-1), preset, radius=radius), soft.mT.flip(-1))


def test_a_frame_alone_needs_no_keys_and_dark_cells_have_no_direction() -> None:
    features, labels = video(1, 3, 4)
    assert torch.equal(propagate(features, labels), labels[None])
    soft = propagate(torch.zeros(4, 5, 3, 4), labels.float())
    assert soft.isfinite().all() and torch.allclose(soft.sum(1), torch.ones(4, 3, 4))
    assert not propagate(video(4, 3, 4)[0], torch.zeros(2, 3, 4)).any()


def test_precision_is_that_of_the_wider_also_under_autocast() -> None:
    features, labels = video(4, 6, 7, dim=16)
    wanted, narrow = propagate(features, labels), propagate(features.float(), labels.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(propagate(features, labels), wanted)
        assert torch.equal(propagate(features.float(), labels.float()), narrow)
    assert propagate(features.float(), labels).dtype == torch.float64
    assert propagate(features.half(), labels.half()).dtype == torch.float32
    assert propagate(features.float(), labels > 0.5).dtype == torch.float32


@pytest.mark.parametrize(
    ("features", "labels", "changes", "said"),
    [
        ((2, 3, 4), (2, 3, 4), {}, r"features: shape \(2, 3, 4\): must be \(T, D, h, w\), none of them 0"),
        ((2, 0, 3, 4), (2, 3, 4), {}, r"features: shape \(2, 0, 3, 4\): must be"),
        ((2, 5, 3, 4), (3, 4), {}, r"labels: shape \(3, 4\): must be \(C, h, w\), none of them 0"),
        ((2, 5, 3, 4), (0, 3, 4), {}, r"labels: shape \(0, 3, 4\): must be"),
        ((2, 5, 3, 4), (2, 4, 3), {}, "labels: 4 x 3 cells, but the features have 3 x 4"),
        ((2, 5, 3, 4), (2, 3, 4), {"preset": "dinno"}, "preset='dinno': unknown; did you mean 'dino'?"),
        ((2, 5, 3, 4), (2, 3, 4), {"topk": 3}, "propagation setting 'topk': unknown; did you mean 'top_k'?"),
        ((2, 5, 3, 4), (2, 3, 4), {"top_k": 0}, "top_k=0: must be a whole number of at least 1"),
        ((2, 5, 3, 4), (2, 3, 4), {"context": 1.5}, "context=1.5: must be a whole number of at least 0"),
        ((2, 5, 3, 4), (2, 3, 4), {"temperature": 0}, "temperature=0: must be a number above 0"),
        ((2, 5, 3, 4), (2, 3, 4), {"radius": -1}, r"radius=-1: must be 0 \(everywhere\) or"),
        ((2, 5, 3, 4), (2, 3, 4), {"window": "disk"}, "window='disk': unknown; did you mean 'disc'?"),
        ((2, 5, 3, 4), (2, 3, 4), {"first_frame": "twice"}, r"first_frame='twice': unknown \(allowed: once"),
    ],
)
def test_what_does_not_fit_is_named(
    features: tuple[int, ...], labels: tuple[int, ...], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(VidsslError, match=said):
        propagate(torch.ones(features), torch.ones(labels), **changes)


def test_what_is_not_finite_is_named() -> None:
    features, labels = video(5, 3, 4)
    features[2, 0, 1, 1], features[4, 1, 0, 0] = torch.nan, torch.inf
    with pytest.raises(VidsslError, match="features: 2 of 5 frames are not finite, first frame 2"):
        propagate(features, labels)
    labels[1, 0, 0] = torch.nan
    with pytest.raises(VidsslError, match="labels: 1 of 3 channels are not finite, first channel 1"):
        propagate(torch.ones(5, 5, 3, 4), labels)


MEMORY = """
import sys, torch
from pathlib import Path
from vidssl.evaluation.tracking.propagation import propagate
preset, radius, frames = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
propagate(torch.randn(frames, 384, 60, 107), torch.rand(3, 60, 107), preset, radius=radius, context=21)
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])  # kB; getrusage knows the parent's peak too
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux")
@pytest.mark.parametrize("preset", ["vfs", "crw"])
def test_a_frame_of_480p_at_stride_8_with_21_frames_of_context_stays_below_2_gb(preset: str) -> None:
    """The whole process, features and all: 22 keys for each of 6,420 queries. A dense matrix alone would be 3.6 GB."""
    command = [sys.executable, "-c", MEMORY, preset, "12", "22"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(shown) < 2 * 2**20
