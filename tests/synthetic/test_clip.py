from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vidssl.errors import VidsslError
from vidssl.synthetic.captions import captioned_frames
from vidssl.synthetic.clip import ATTENTION_GAIN, _sharpen, save_clip, toy_clip_config, train_toy_clip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    images, captions = captioned_frames(96, size=32, seed=0, keep=0.5)
    folder, losses = tmp_path_factory.mktemp("clip"), []
    train_toy_clip(
        images, captions, folder, steps=30, batch_size=32, progress=lambda step, loss: losses.append(loss)
    )
    return folder, losses


def test_it_learns(trained):
    _, losses = trained
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < losses[0] - 0.3  # chance is log 32 = 3.47


def test_the_saved_folder_is_open_clips_own_format(trained):
    import open_clip

    folder, _ = trained
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a small red heart"])
    assert tokens.shape == (1, 32)
    images = torch.rand(2, 3, 32, 32)
    import vidssl

    encoder = vidssl.create_model(f"local-dir:{folder}").eval()
    with torch.no_grad():
        torch.testing.assert_close(
            encoder(images[:, :, None]).clip, model.encode_image(images), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            encoder.text.encode(["a small red heart"]), model.encode_text(tokens), atol=1e-5, rtol=0
        )


def test_reloading_changes_no_feature(tmp_path, monkeypatch):
    """Bit for bit, with the tokenizer that open_clip bundles: no request leaves the process."""
    import socket

    import open_clip

    def refuse(*args, **kwargs):
        raise AssertionError("tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    config = toy_clip_config(image_size=32)
    model = open_clip.CLIP(**config).eval()
    save_clip(model, config, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), tmp_path)
    loaded, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    loaded.eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(["a red heart", "an arrow, near the left"])
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.encode_image(images), model.encode_image(images))
        assert torch.equal(loaded.encode_text(tokens), model.encode_text(tokens))
    assert preprocess.transforms[-1].mean == [0.1, 0.2, 0.3]
    assert preprocess.transforms[-1].std == [0.4, 0.5, 0.6]


def test_sharpening_leaves_values_alone():
    """Queries and keys grow by the gain each, the value third of the stacked weight stays."""
    import open_clip

    visual = open_clip.CLIP(**toy_clip_config(image_size=32)).visual
    before = visual.transformer.resblocks[0].attn.in_proj_weight.detach().clone()
    _sharpen(visual)
    after = visual.transformer.resblocks[0].attn.in_proj_weight
    torch.testing.assert_close(after[:256], ATTENTION_GAIN * before[:256])
    assert torch.equal(after[256:], before[256:])


def test_same_seed_same_weights_and_no_global_state(trained, tmp_path):
    images, captions = captioned_frames(96, size=32, seed=0, keep=0.5)
    state = torch.get_rng_state()
    for name in ("a", "b"):
        train_toy_clip(images, captions, tmp_path / name, steps=2, batch_size=32)
    assert torch.equal(state, torch.get_rng_state())
    first, second = ((tmp_path / name / "open_clip_model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


def test_wrong_input_is_named(tmp_path):
    images = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(VidsslError, match="3 captions for 4 images"):
        train_toy_clip(images, ["a"] * 3, tmp_path, steps=1, batch_size=2)
    with pytest.raises(VidsslError, match="square uint8"):
        train_toy_clip(images[:, :16], ["a"] * 4, tmp_path, steps=1, batch_size=2)
    with pytest.raises(VidsslError, match="batch_size=5"):
        train_toy_clip(images, ["a"] * 4, tmp_path, steps=1, batch_size=5)
