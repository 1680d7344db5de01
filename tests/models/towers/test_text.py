"""The text tower beside the encoder."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import vidssl
from tests.tiny_clip import TINY_CONFIG, tiny_config, write_tiny_clip
from vidssl.errors import VidsslError
from vidssl.models.export import read_encoder, save_encoder
from vidssl.models.towers.text import TextEncoder

TEXTS = ["a video of a person juggling.", "swimming", "", "Frisbee " * 100]


def text_of(folder: Path) -> TextEncoder:
    text = vidssl.create_model(f"local-dir:{folder}").text
    assert text is not None
    return text


@pytest.mark.parametrize("pooling", ["argmax", "last"])
def test_features_are_those_of_open_clip(pooling: str, tmp_path: Path) -> None:
    import open_clip

    config = tiny_config()
    config["text_cfg"]["pool_type"] = pooling
    folder = write_tiny_clip(tmp_path, config)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.no_grad():
        expected = model.encode_text(tokenizer(TEXTS))
    text = text_of(folder)
    for batch_size in (1, 3, 256):
        torch.testing.assert_close(text.encode(TEXTS, batch_size=batch_size), expected, atol=1e-5, rtol=0)
    assert text.logit_scale == pytest.approx(math.log(100.0))
    assert text.temperature == pytest.approx(0.01)


def test_is_frozen_float32_and_without_gradient(tiny_clip: Path) -> None:
    text = text_of(tiny_clip)
    assert not text.tower.training
    assert not any(parameter.requires_grad for parameter in text.tower.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = text.encode(TEXTS)
    assert low.dtype == torch.float32
    assert torch.equal(low, text.encode(TEXTS))
    weight = torch.zeros(32, requires_grad=True)
    (low @ weight).sum().backward()  # usable as a constant of a loss
    assert weight.grad is not None


def test_no_texts_give_an_empty_matrix(tiny_clip: Path) -> None:
    assert text_of(tiny_clip).encode([]).shape == (0, 32)


@pytest.mark.parametrize("texts", ["swimming", ["swimming", 3], [None]])
def test_only_lists_of_strings(texts: Any, tiny_clip: Path) -> None:
    with pytest.raises(VidsslError, match="list of strings"):
        text_of(tiny_clip).encode(texts)


def test_counts_tokens(tiny_clip: Path) -> None:
    text = text_of(tiny_clip)
    assert text.num_tokens("") == 2
    assert text.num_tokens("swimming") == 3
    assert text.num_tokens(TEXTS[3]) == 102
    assert text.context_length == 77


def test_fingerprint_is_of_the_weights(tiny_clip: Path, tmp_path: Path) -> None:
    text = text_of(tiny_clip)
    digest = hashlib.sha256()
    for name, tensor in sorted(text.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)};".encode() + tensor.numpy().tobytes())
    assert text.fingerprint == digest.hexdigest()
    assert text_of(tiny_clip).fingerprint == text.fingerprint
    other = text_of(write_tiny_clip(tmp_path, seed=1))
    assert other.fingerprint != text.fingerprint
    other.load_state_dict(text.state_dict())
    assert other.fingerprint == text.fingerprint


def test_deep_copies_share_it(tiny_clip: Path) -> None:
    text = text_of(tiny_clip)
    assert copy.deepcopy({"text": text})["text"] is text


def write_word_tokenizer(folder: Path) -> None:
    """A transformers tokenizer of whole words, made without a download."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "swimming": 2, "juggling": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    kind: Any = PreTrainedTokenizerFast
    fast = kind(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder)


def test_a_transformers_tokenizer_travels_with_the_export(tmp_path: Path) -> None:
    config = tiny_config()
    config["text_cfg"] |= {"hf_tokenizer_name": "someone/words", "context_length": 8, "vocab_size": 4}
    folder = write_tiny_clip(tmp_path / "source", config)
    write_word_tokenizer(folder)
    encoder = vidssl.create_model(f"local-dir:{folder}")
    assert encoder.text is not None
    tokens = encoder.text.tokenizer(["juggling swimming", "nonsense"])
    assert tokens.tolist() == [[3, 2, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]
    assert encoder.text.num_tokens("juggling swimming") == 2
    exported = save_encoder(encoder, tmp_path / "export")
    for file in folder.iterdir():
        file.unlink()
    loaded = read_encoder(exported)
    assert loaded.text is not None
    assert torch.equal(loaded.text.encode(["juggling"]), encoder.text.encode(["juggling"]))
    again = read_encoder(save_encoder(loaded, tmp_path / "again"))
    assert again.text is not None
    assert torch.equal(again.text.encode(["juggling"]), encoder.text.encode(["juggling"]))


def test_a_tokenizer_out_of_reach_is_one_error(tmp_path: Path) -> None:
    config = tiny_config()
    config["text_cfg"]["hf_tokenizer_name"] = "someone/words"
    folder = write_tiny_clip(tmp_path, config)
    with pytest.raises(VidsslError, match="load_text=False") as error:
        vidssl.create_model(f"local-dir:{folder}")
    assert "\n" not in str(error.value)
    assert vidssl.create_model(f"local-dir:{folder}", load_text=False).text is None


def write_text_model_clip(folder: Path, **text: Any) -> Path:
    """A CLIP model whose text tower is a tiny RoBERTa, its config beside the weights."""
    import open_clip
    from safetensors.torch import save_file
    from transformers import RobertaConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    model = RobertaConfig(vocab_size=4, max_position_embeddings=20, pad_token_id=0, **sizes)  # type: ignore[arg-type]
    model.save_pretrained(folder / "text_model")
    write_word_tokenizer(folder)
    config = tiny_config()
    config["text_cfg"] = {
        "hf_model_name": str(folder / "text_model"), "hf_tokenizer_name": "someone/words", "context_length": 8,
        "hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler", "hf_model_pretrained": False, **text,
    }  # fmt: skip
    torch.manual_seed(0)
    clip = open_clip.CustomTextCLIP(**config, init_logit_bias=-10.0)
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return folder


def test_a_text_tower_of_transformers_is_open_clips(tmp_path: Path) -> None:
    import open_clip
    from safetensors.torch import load_file, save_file

    folder = write_text_model_clip(tmp_path / "model")
    weights = load_file(folder / "open_clip_model.safetensors")
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    model = open_clip.CustomTextCLIP(**config, init_logit_bias=0.0).eval()
    model.load_state_dict(weights)
    text = text_of(folder)
    words = ["juggling swimming", "swimming", "nonsense"]
    with torch.no_grad():
        expected = model.encode_text(text.tokenizer(words))
    torch.testing.assert_close(text.encode(words), expected, atol=1e-5, rtol=0)
    assert text.bias == pytest.approx(float(weights["logit_bias"]))
    encoder = vidssl.create_model(f"local-dir:{folder}")
    exported = save_encoder(encoder, tmp_path / "export")
    (folder / "text_model" / "config.json").unlink()
    loaded = read_encoder(exported).text
    assert loaded is not None
    assert torch.equal(loaded.encode(words), text.encode(words))
    assert loaded.bias == text.bias
    key = next(
        key for key in weights if key.endswith("query.bias")
    )  # one that is lost is an error, never zero
    del weights[key]
    write_text_model_clip(tmp_path / "model")
    save_file(weights, folder / "open_clip_model.safetensors")
    with pytest.raises(VidsslError, match=r"1 missing \(text\..*query\.bias"):
        vidssl.create_model(f"local-dir:{folder}")


def test_text_towers_that_cannot_be_had_are_one_line(tmp_path: Path, offline: None) -> None:
    folder = write_tiny_clip(tmp_path, json.loads(json.dumps(TINY_CONFIG)))
    config = json.loads(json.dumps(TINY_CONFIG))
    config["text_cfg"] |= {"hf_model_name": "roberta-base"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    (folder / "text_model").mkdir()
    with pytest.raises(VidsslError, match=r"text tower 'roberta-base': .*load_text=False"):
        vidssl.create_model(f"local-dir:{folder}")
    assert vidssl.create_model(f"local-dir:{folder}", load_text=False).text is None
    file = folder / "text_model" / "config.json"
    file.write_text(json.dumps({"model_type": "roberta", "auto_map": {"AutoModel": "theirs.Model"}}))
    with pytest.raises(VidsslError, match="wants code of the repository"):
        vidssl.create_model(f"local-dir:{folder}")
    file.write_text(json.dumps({"model_type": "rocket"}))
    with pytest.raises(VidsslError, match="of the kind 'rocket': cannot be built"):
        vidssl.create_model(f"local-dir:{folder}")
