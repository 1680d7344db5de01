"""Checkpoints of the programs that trained VideoMAE, TimeSformer and SVT, against those networks written out here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

import vidssl
from tests.models.tiny_weights import one_line
from tests.models.towers.huggingface.tiny import noise
from vidssl.errors import VidsslError
from vidssl.models.export import save_encoder
from vidssl.models.towers.huggingface import checkpoints
from vidssl.models.towers.training import lines_of

WIDTH, HEADS, LAYERS, PATCH, SIDE = 24, 2, 2, 8, 16
TINY: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 32,
    "layer_norm_eps": 1e-6,
    "image_size": SIDE,
    "patch_size": PATCH,
    "num_frames": 4,
}


@pytest.fixture(autouse=True)
def tiny_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in (("videomae-tiny", "videomae"), ("svt-tiny", "timesformer")):
        pools = {"use_mean_pooling": False} if kind == "videomae" else {}
        monkeypatch.setitem(checkpoints.ARCHITECTURES, name, TINY | {"model_type": kind} | pools)


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.4 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def block(number: int, *, divided: bool) -> dict[str, tuple[int, ...]]:
    w = WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "norm1.weight": (w,), "norm1.bias": (w,), "norm2.weight": (w,), "norm2.bias": (w,),
        "attn.qkv.weight": (3 * w, w), "attn.proj.weight": (w, w), "attn.proj.bias": (w,),
        "mlp.fc1.weight": (32, w), "mlp.fc1.bias": (32,), "mlp.fc2.weight": (w, 32), "mlp.fc2.bias": (w,),
    }  # fmt: skip
    if divided:
        shapes |= {
            "attn.qkv.bias": (3 * w,),
            "temporal_norm1.weight": (w,), "temporal_norm1.bias": (w,),
            "temporal_attn.qkv.weight": (3 * w, w), "temporal_attn.qkv.bias": (3 * w,),
            "temporal_attn.proj.weight": (w, w), "temporal_attn.proj.bias": (w,),
            "temporal_fc.weight": (w, w), "temporal_fc.bias": (w,),
        }  # fmt: skip
    else:
        shapes |= {"attn.q_bias": (w,), "attn.v_bias": (w,)}
    return {f"blocks.{number}.{name}": shape for name, shape in shapes.items()}


def videomae(*, finetuned: bool) -> dict[str, Tensor]:
    """Weights by the names of modeling_pretrain.py's encoder, or of modeling_finetune.py."""
    norm = "fc_norm" if finetuned else "norm"
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (WIDTH, 3, 2, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        f"{norm}.weight": (WIDTH,),
        f"{norm}.bias": (WIDTH,),
    }
    for number in range(LAYERS):
        shapes |= block(number, divided=False)
    return drawn(shapes)


def timesformer(frames: int = 4) -> dict[str, Tensor]:
    """Weights by the names of vit.py."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 5, WIDTH),
        "time_embed": (1, frames, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for number in range(LAYERS):
        shapes |= block(number, divided=True)
    return drawn(shapes)


def normed(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)


def mapped(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def attention(x: Tensor, weights: dict[str, Tensor], name: str, bias: Tensor) -> Tensor:
    """(N, S, W) -> (N, S, W), by the softmax of the scaled products."""
    q, k, v = rearrange(
        F.linear(x, weights[f"{name}.qkv.weight"], bias), "n s (three h d) -> three n h s d", three=3, h=HEADS
    )
    share = torch.softmax(q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5, dim=-1)
    return mapped(rearrange(share @ v, "n h s d -> n s (h d)"), weights, f"{name}.proj")


def mlp(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return mapped(F.gelu(mapped(x, weights, f"{name}.fc1")), weights, f"{name}.fc2")


def sinusoids(positions: int) -> Tensor:
    angles = np.arange(positions)[:, None] / 10000 ** (2 * (np.arange(WIDTH) // 2) / WIDTH)
    return torch.from_numpy(np.where(np.arange(WIDTH) % 2, np.cos(angles), np.sin(angles))).float()


def run_videomae(weights: dict[str, Tensor], clips: Tensor) -> Tensor:
    x = F.conv3d(
        clips, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=(2, PATCH, PATCH)
    )
    x = rearrange(x, "b w t i j -> b (t i j) w")
    x = x + sinusoids(x.shape[1])
    for number in range(LAYERS):
        own = {key.removeprefix(f"blocks.{number}."): value for key, value in weights.items()}
        bias = torch.cat([own["attn.q_bias"], torch.zeros(WIDTH), own["attn.v_bias"]])
        x = x + attention(normed(x, own, "norm1"), own, "attn", bias)
        x = x + mlp(normed(x, own, "norm2"), own, "mlp")
    return (
        normed(x.mean(dim=1), weights, "fc_norm")
        if "fc_norm.weight" in weights
        else normed(x, weights, "norm").mean(dim=1)
    )


def run_timesformer(weights: dict[str, Tensor], clips: Tensor) -> Tensor:
    batch, length = clips.shape[0], clips.shape[2]
    x = F.conv2d(
        rearrange(clips, "b c t h w -> (b t) c h w"),
        weights["patch_embed.proj.weight"],
        weights["patch_embed.proj.bias"],
        stride=PATCH,
    )
    x = rearrange(x, "(b t) w i j -> b (i j) t w", t=length)
    x = x + weights["pos_embed"][0, 1:, None] + weights["time_embed"][0]
    token = (weights["cls_token"][0] + weights["pos_embed"][0, :1]).expand(batch, 1, WIDTH)
    for number in range(LAYERS):
        own = {key.removeprefix(f"blocks.{number}."): value for key, value in weights.items()}
        along = rearrange(x, "b p t w -> (b p) t w")
        along = attention(
            normed(along, own, "temporal_norm1"), own, "temporal_attn", own["temporal_attn.qkv.bias"]
        )
        x = x + rearrange(mapped(along, own, "temporal_fc"), "(b p) t w -> b p t w", b=batch)
        within = torch.cat(
            [repeat(token, "b one w -> (b t) one w", t=length), rearrange(x, "b p t w -> (b t) p w")], dim=1
        )
        within = rearrange(
            attention(normed(within, own, "norm1"), own, "attn", own["attn.qkv.bias"]),
            "(b t) s w -> b s t w",
            t=length,
        )
        token = token + within[:, 0].mean(dim=1, keepdim=True)
        x = x + within[:, 1:]
        token, x = (y + mlp(normed(y, own, "norm2"), own, "mlp") for y in (token, x))
    return normed(token[:, 0], weights, "norm")


def under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in weights.items()}


HEAD = {"head.mlp.0.weight": torch.ones(3, 3), "head.last_layer.weight_g": torch.ones(3, 1)}
DECODER = {
    "mask_token": torch.ones(1, 1, 3),
    "encoder_to_decoder.weight": torch.ones(3, 3),
    "decoder.blocks.0.norm1.weight": torch.ones(3),
}
PROGRAM = {
    "epoch": 3,
    "args": argparse.Namespace(lr=1e-3, name="x"),
    "lr": np.float64(0.1),
    "optimizer": {"state": {}, "lr": np.float32(1)},
}
CHECKPOINTS: dict[str, tuple[str, Any, Any]] = {
    "VideoMAE's pretraining": (
        "videomae-tiny",
        lambda x: {"model": under("encoder.", x) | DECODER} | PROGRAM,
        videomae(finetuned=False),
    ),
    "VideoMAE's finetuning": (
        "videomae-tiny",
        lambda x: {"module": x | {"head.weight": torch.ones(3, WIDTH), "head.bias": torch.ones(3)}} | PROGRAM,
        videomae(finetuned=True),
    ),
    "SVT": (
        "svt-tiny",
        lambda x: (
            {
                "teacher": under("backbone.", x) | HEAD,
                "student": under("module.backbone.", x),
                "motion_teacher": 0,
            }
            | PROGRAM
        ),
        timesformer(),
    ),
    "SVT on several processes": (
        "svt-tiny",
        lambda x: {"teacher": under("module.", under("backbone.", x) | HEAD)} | PROGRAM,
        timesformer(6),
    ),
    "TimeSformer": (
        "svt-tiny",
        lambda x: (
            {
                "model_state": under(
                    "model.", x | {"head.weight": torch.ones(3, WIDTH), "head.bias": torch.ones(3)}
                )
            }
            | PROGRAM
        ),
        timesformer(),
    ),
    "plain weights": ("svt-tiny", lambda x: x, timesformer()),
}


@pytest.mark.parametrize("program", CHECKPOINTS)
def test_features_are_those_of_the_program(program: str, tmp_path: Path) -> None:
    name, wrapped, weights = CHECKPOINTS[program]
    torch.save(wrapped(weights), tmp_path / "checkpoint.pth")
    encoder = vidssl.load_encoder(f"transformers/{name}:{tmp_path}/checkpoint.pth")
    length = weights["time_embed"].shape[1] if "time_embed" in weights else 4
    assert encoder.usual_frames == length
    clips = noise(2, 3, length, SIDE, SIDE)
    expected = (run_videomae if "mae" in name else run_timesformer)(weights, clips)
    with torch.no_grad():
        torch.testing.assert_close(encoder(clips).clip, expected, atol=1e-5, rtol=0)
    folder = save_encoder(encoder, tmp_path / "ours")
    assert torch.equal(vidssl.load(folder)(clips).clip, encoder(clips).clip)
    start = vidssl.create_model(f"transformers/{name}", str(folder)).eval()
    assert torch.equal(start(clips).clip, encoder(clips).clip)


def test_what_became_of_the_weights_is_recorded(tmp_path: Path) -> None:
    torch.save(CHECKPOINTS["SVT"][1](timesformer()), tmp_path / "svt.pth")
    record = vidssl.load_encoder(f"transformers/svt-tiny:{tmp_path}/svt.pth").spec["read"]
    assert (record["under"], record["prefix"]) == ("teacher", "backbone.")
    assert record["left_out"] == ["head.last_layer.weight_g", "head.mlp.*.weight"]
    assert record["mapped"]["blocks.*.temporal_fc.bias"] == "encoder.layer.*.temporal_dense.bias"
    said = lines_of(record)
    assert said[0] == "weights read from teacher: backbone."
    assert "  cls_token -> embeddings.cls_token" in said
    assert said[-1].startswith("left out: head.last_layer.weight_g, ")
    torch.save(CHECKPOINTS["VideoMAE's pretraining"][1](videomae(finetuned=False)), tmp_path / "mae.pth")
    record = vidssl.load_encoder(f"transformers/videomae-tiny:{tmp_path}/mae.pth").spec["read"]
    names = [f"encoder.layer.*.attention.attention.{part}.weight" for part in ("key", "query", "value")]
    assert record["mapped"]["blocks.*.attn.qkv.weight"] == ", ".join(names)
    assert record["left_out"] == ["decoder.blocks.*.norm1.weight", "encoder_to_decoder.weight", "mask_token"]


class Unsafe:
    """What a pickle may not hold."""


@pytest.mark.parametrize(
    ("weights", "name", "words"),
    [
        (
            {"teacher": under("backbone.", timesformer()) | {"strange": torch.ones(1)}},
            "svt-tiny",
            "belongs to no head or decoder: strange",
        ),
        (
            {"model": under("encoder.", videomae(finetuned=False)), "teacher": timesformer()},
            "svt-tiny",
            "holds several models",
        ),
        (
            {"model": under("encoder.", videomae(finetuned=False))},
            "svt-tiny",
            "weights do not fit TimesformerModel",
        ),
        ({"teacher": under("backbone.", timesformer())}, "videomae-tiny", "weights do not fit VideoMAEModel"),
        (
            {"student": timesformer()},
            "svt-tiny",
            r"holds no dictionary of tensors, .* \(found: only student\)",
        ),
        (
            {"teacher": {"backbone.conv1.weight": torch.ones(1)}},
            "svt-tiny",
            "weights of another model than TimesformerModel",
        ),
        (
            {"model": timesformer(), "args": Unsafe()},
            "svt-tiny",
            "holds .*Unsafe beside its tensors; such objects are refused",
        ),
        (
            {key: value for key, value in videomae(finetuned=False).items() if "q_bias" not in key},
            "videomae-tiny",
            "2 missing .*query.bias",
        ),
    ],
)
def test_mistakes_are_a_line(weights: Any, name: str, words: str, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "x.pth")
    with pytest.raises(VidsslError, match=words) as error:
        vidssl.load_encoder(f"transformers/{name}:{tmp_path}/x.pth")
    one_line(error)


def test_published_sizes() -> None:
    """Number of parameters of the encoders, in millions, as the VideoMAE paper and TimeSformer's repository count them."""
    import transformers

    from vidssl.models.towers.huggingface.kinds import find_kind
    from vidssl.models.towers.huggingface.network import _config

    millions = {
        "videomae-small": 22,
        "videomae-base": 86,
        "videomae-large": 304,
        "videomae-huge": 632,
        "timesformer-base": 121,
    }
    for name, expected in millions.items():
        config = checkpoints.ARCHITECTURES[name]
        kind = find_kind(config, name)
        with torch.device("meta"):
            network = getattr(transformers, kind.model)(_config(config, kind))
        assert round(sum(p.numel() for p in network.parameters()) / 1e6) == pytest.approx(expected, abs=1)
        heads = config["hidden_size"] // config["num_attention_heads"]
        assert heads == (80 if name == "videomae-huge" else 64)
