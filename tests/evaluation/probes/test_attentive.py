"""Attentive heads: the plain formula, each head as if alone, and a probe that sees what a mean cannot."""

from __future__ import annotations

import json
import math
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.evaluation.features.test_cache import subject_of
from vidssl.errors import VidsslError
from vidssl.evaluation.features.tokens import Tokens, _in_blocks, token_bytes
from vidssl.evaluation.probes.attention import AttentiveHeads
from vidssl.evaluation.probes.attentive import AttentiveOptions
from vidssl.evaluation.probes.grid import GridAdamW, attentive_scores, fit_attentive
from vidssl.evaluation.probes.selection import Setting
from vidssl.evaluation.setup import EvalOptions

probes = import_module("vidssl.evaluation.probes.attentive")


def drawn(heads: AttentiveHeads, seed: int = 1) -> AttentiveHeads:
    """With parameters drawn anew for every head."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.normal_(std=0.4)
    return heads.double()


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_head_is_the_plain_formula(blocks):
    """Keys and values of all tokens are made here, and one head is looked at at a time."""
    heads = drawn(AttentiveHeads(2, 64, 3, blocks=blocks))
    x, shown = torch.randn(4, 5, 64).double(), torch.ones(4, 5).bool()
    shown[1, 3:] = False
    found = heads(x, shown)
    for h in range(2):
        p = {name: value[h] for name, value in heads.named_parameters()}

        def norm(y, name, p=p):
            return F.layer_norm(y, (64,)) * p[f"{name[0]}_scale_{name[1]}"] + p[f"{name[0]}_shift_{name[1]}"]

        def attend(q, kv, b, p=p):
            parts = (
                q @ p[f"query_{b}"].T + p[f"query_bias_{b}"],
                kv @ p[f"key_{b}"].T + 0.7,  # a bias of the keys makes no difference
                kv @ p[f"value_{b}"].T + p[f"value_bias_{b}"],
            )
            q, k, v = (part.unflatten(-1, (heads.attention, -1)).transpose(1, 2) for part in parts)
            scores = (q @ k.transpose(2, 3)) / math.sqrt(q.shape[-1])
            weights = scores.masked_fill(~shown[:, None, None], -math.inf).softmax(-1)
            return (weights @ v).transpose(1, 2).flatten(2) @ p[f"out_{b}"].T + p[f"out_bias_{b}"]

        def think(y, b, p=p):
            y = norm(y, ("norm2", b))
            return (
                F.gelu(y @ p[f"wide_{b}"].T + p[f"wide_bias_{b}"]) @ p[f"narrow_{b}"].T
                + p[f"narrow_bias_{b}"]
            )

        y = F.layer_norm(x, (64,))
        for b in range(blocks - 1):
            seen = norm(y, ("norm1", b))
            y = y + attend(seen, seen, b)
            y = y + think(y, b)
        b = blocks - 1
        query = p["token"].expand(4, 1, 64)
        query = query + attend(query, norm(y, ("norm1", b)), b)
        query = query + think(query, b)
        expected = query[:, 0] @ p["classes"].T + p["classes_bias"]
        torch.testing.assert_close(found[h], expected, atol=1e-9, rtol=0)


class InMemory(Tokens):
    """Tokens that are held."""

    def __init__(self, x, shown=None):
        self.x, self.shown = x, torch.ones(x.shape[:2]).bool() if shown is None else shown

    def __len__(self):
        return len(self.x)

    def __getitem__(self, places):
        return self.x[places], self.shown[places]


def which_frame(n: int, seed: int) -> tuple[InMemory, torch.Tensor]:
    """The class is the sign in one dimension of the token that is marked in another; the mean over tokens is zero in it."""
    generator = torch.Generator().manual_seed(seed)
    x, y = 0.1 * torch.randn(n, 6, 32, generator=generator), torch.randint(2, (n,), generator=generator)
    marked = torch.randint(6, (n,), generator=generator)
    x[torch.arange(n), marked, 0] = 2.0
    x[torch.arange(n), marked, 1] = 2.0 * (2 * y - 1)
    x[:, :, 1] -= x[:, :, 1].mean(1, keepdim=True)
    return InMemory(x), y


@pytest.mark.parametrize("blocks", [1, 2])
def test_heads_trained_at_once_are_those_trained_alone(blocks):
    tokens, y = which_frame(12, 0)
    grid = [Setting(1e-3, 0.01), Setting(3e-3, 0.8)]
    how = {"blocks": blocks, "epochs": 2, "batch_size": 5, "seed": 2}
    together = fit_attentive(tokens, torch.arange(12), y, 2, grid, **how)
    for number, setting in enumerate(grid):
        alone = fit_attentive(tokens, torch.arange(12), y, 2, [setting], **how)
        found = [attentive_scores(heads, tokens, torch.arange(12), 12) for heads in (together, alone)]
        torch.testing.assert_close(found[0][number], found[1][0], atol=2e-4, rtol=0)


def test_each_head_has_its_own_rate_and_decay_and_only_matrices_decay():
    start = torch.randn(2, 3, 4).double()
    module = nn.ParameterDict({"matrix": start.clone(), "vector": start[:, 0].clone()})
    grid = [Setting(0.1, 0.5), Setting(0.01, 0.1)]
    mine, theirs = (
        GridAdamW(module, grid),
        [[nn.Parameter(x[h].clone()) for x in (start, start[:, 0])] for h in (0, 1)],
    )
    optimizers = [
        torch.optim.AdamW(
            [{"params": [m], "weight_decay": one.decay}, {"params": [v], "weight_decay": 0}], lr=one.rate
        )
        for (m, v), one in zip(theirs, grid, strict=True)
    ]
    for scale in (1.0, 0.5, 0.1):
        gradient = torch.randn(2, 3, 4).double()
        module["matrix"].grad, module["vector"].grad = gradient, gradient[:, 1].clone()
        mine.step(scale)
        for h, ((matrix, vector), optimizer) in enumerate(zip(theirs, optimizers, strict=True)):
            matrix.grad, vector.grad = gradient[h], gradient[h, 1]
            for group in optimizer.param_groups:
                group["lr"] = scale * grid[h].rate
            optimizer.step()
            torch.testing.assert_close(module["matrix"].data[h], matrix.data, atol=1e-9, rtol=0)
            torch.testing.assert_close(module["vector"].data[h], vector.data, atol=1e-9, rtol=0)


def test_a_head_finds_the_token_that_counts_where_the_mean_says_nothing():
    (train, y), (test, truth) = which_frame(200, 0), which_frame(100, 1)
    heads = fit_attentive(train, torch.arange(200), y, 2, [Setting(5e-3, 0.01)], epochs=8, batch_size=32)
    right = attentive_scores(heads, test, torch.arange(100), 50)[0].argmax(1) == truth
    assert right.double().mean() > 0.9


def test_tokens_that_do_not_count_change_nothing():
    heads = drawn(AttentiveHeads(2, 32, 3, blocks=2))
    x, shown = torch.randn(3, 6, 32).double(), torch.arange(6)[None].expand(3, -1) < 4
    noisy = torch.where(shown[:, :, None], x, 100 * torch.randn_like(x))
    torch.testing.assert_close(heads(x, shown), heads(noisy, shown))


@pytest.mark.parametrize(
    "given", [{"blocks": 5}, {"layer": 1}, {"tokens": "pixels"}, {"rates": ()}, {"rates": (0.0,)}, {"select": "test"}]
)  # fmt: skip
def test_what_makes_no_sense_is_refused(given):
    with pytest.raises(VidsslError):
        AttentiveOptions(**given)


@pytest.mark.parametrize("tokens", [{}, {"tokens": "patches", "layer": 0}])
def test_the_probe_on_videos_reads_what_was_kept(sprites, tmp_path, monkeypatch, tokens):
    how = AttentiveOptions(epochs=2, rates=(1e-3, 1e-2), decays=(0.1,), batch_size=8, **tokens)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(probes, "load_subject", lambda _, options: subject_of(options))
    monkeypatch.setattr(probes, "result_header", lambda *_: {"task": "attentive-probe"})
    monkeypatch.setattr(probes.Splits, "suspicions", lambda _, predictions: [f"judged: {list(predictions)}"])
    plain = EvalOptions(clips=2, frames=4, seconds=0.5, size=32, workers=0, cache=False)
    results = [
        probes.attentive_probe("x", sprites / "train", sprites / "val", fit=how, options=options)
        for options in (plain, EvalOptions(**{**vars(plain), "cache": tmp_path / "kept"}))
    ]
    assert results[0] == results[1]
    assert results[0]["scores"]["trained"]["total"] == 9
    assert "judged: ['trained']" in results[0]["notes"]
    assert results[0]["chosen"]["trained"]["rate"] in (1e-3, 1e-2)
    assert list((tmp_path / "kept").iterdir()) and not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("tokens", [{}, {"tokens": "patches", "layer": 0}])
def test_on_the_fly_is_the_same_to_the_last_bit_and_keeps_no_tokens(sprites, tmp_path, monkeypatch, tokens):
    monkeypatch.setattr(probes, "load_subject", lambda _, options: subject_of(options))
    monkeypatch.setattr(probes, "result_header", lambda *_: {"task": "attentive-probe"})
    seen = []
    score = probes.attentive_scores
    monkeypatch.setattr(
        probes, "attentive_scores", lambda heads, *more: seen.append(score(heads, *more)) or seen[-1]
    )
    shown = {"clips": 2, "frames": 4, "seconds": 0.5, "size": 32, "workers": 0, "batch_size": 4}
    how = {"epochs": 2, "rates": (1e-3, 1e-2), "decays": (0.1,), "batch_size": 5, **tokens}
    found = {}
    for name, fly, gigabytes in (("kept", None, 20.0), ("flag", True, 20.0), ("size", None, 1e-6)):
        options = EvalOptions(**shown, cache=tmp_path / name, cache_gigabytes=gigabytes)
        fit = AttentiveOptions(**how, on_the_fly=fly)
        found[name] = probes.attentive_probe(
            "x", sprites / "train", sprites / "val", fit=fit, options=options
        )
    notes = found["kept"]["notes"]
    kept, *fresh = (seen[place : place + 2] for place in (0, 2, 4))
    for name, scores in zip(("flag", "size"), fresh, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(kept, scores, strict=True))
        *same, said = found[name].pop("notes")
        assert same == notes and "were not kept: every epoch decoded and encoded" in said
        assert {**found[name], "notes": notes} == found["kept"]
    about = [json.loads(file.read_text()) for file in (tmp_path / "flag").glob("*/manifest.json")]
    assert not any(one["pooling"] == "patches" for one in about)


def test_videos_stand_in_their_own_rows():
    assert _in_blocks([7, 3, 0, 4, 8], 4) == [[0, 7], [4, 3], [8]]
    assert _in_blocks([2, 1, 0], 4) == [[0, 1, 2]]


def test_the_size_of_tokens_is_what_they_take(sprites):
    subject = subject_of(EvalOptions(clips=2, frames=4, seconds=0.5, size=32, workers=0))
    shape = subject.encoder(torch.zeros(1, 3, 4, 32, 32), patches=True).patches.shape
    twins = 1 if subject.untrained is None else 2
    assert token_bytes(subject, AttentiveOptions(tokens="patches").kind, 9) == twins * 9 * 2 * 4 * math.prod(
        shape
    )
