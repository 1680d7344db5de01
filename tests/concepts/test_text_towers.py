"""Towers of transformers, made small and saved to a folder: nothing is fetched."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.concepts.examples import example
from vidssl.concepts.build import build_space
from vidssl.concepts.text_towers import TransformersTextEncoder, load_text_tower
from vidssl.errors import VidsslError
from vidssl.models.towers.text import TextEncoder

TEXTS = ["a juggler", "three small balls fly", "", "balls " * 40]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "juggler", "three", "small", "balls", "fly"]
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {
    **SMALL,
    "vocab_size": 10,
    "max_position_embeddings": 12,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
VISION = {**SMALL, "image_size": 8, "patch_size": 4}


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    kind: Any = PreTrainedTokenizerFast
    kind(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
         ).save_pretrained(folder)  # fmt: skip


def write_model(kind: str, folder: Path, seed: int = 0) -> Any:
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "clip-text":
            config = transformers.CLIPTextConfig(**TEXT, projection_dim=8)
            model: Any = transformers.CLIPTextModelWithProjection(config)
        elif kind == "clip":
            config = transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8)
            model = transformers.CLIPModel(config)
        elif kind == "siglip":
            config = transformers.SiglipConfig(text_config=TEXT, vision_config=VISION)
            model = transformers.SiglipModel(config)
        else:
            config = transformers.BertConfig(**{**TEXT, "max_position_embeddings": 12})
            model = transformers.BertModel(config, add_pooling_layer=False)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model.eval()


def ids(text: str, length: int = 12) -> list[int]:
    inner = [WORDS.index(word) if word in WORDS else 1 for word in text.split()]
    return [2, *inner[: length - 2], 3]


def reference(kind: str, model: Any, text: str) -> torch.Tensor:
    """One text at a time, by the model's own parts."""
    tokens = torch.tensor([ids(text)])
    with torch.no_grad():
        if kind == "clip-text":
            return model(input_ids=tokens).text_embeds[0]
        if kind == "clip":
            pooled = model.text_model(input_ids=tokens).pooler_output
            return model.text_projection(pooled)[0]
        if kind == "siglip":
            padded = torch.nn.functional.pad(tokens, (0, 12 - tokens.shape[1]))
            return model.text_model(input_ids=padded).pooler_output[0]
        return model(input_ids=tokens).last_hidden_state[0].mean(dim=0)


@pytest.mark.parametrize("kind", ["clip-text", "clip", "siglip", "bert"])
def test_features_are_those_of_the_model(kind, tmp_path):
    model = write_model(kind, tmp_path)
    tower = TransformersTextEncoder(tmp_path)
    expected = torch.stack([reference(kind, model, text) for text in TEXTS])
    assert tower.context_length == 12
    for batch_size in (1, 3, 256):
        found = tower.encode(TEXTS, batch_size=batch_size)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert found.dtype == torch.float32 and not found.requires_grad
    assert tower.encode([]).shape == (0, expected.shape[1])
    assert tower.num_tokens("a juggler") == 4 and tower.num_tokens(TEXTS[3]) == 42


def test_fingerprints_are_of_what_the_texts_see(tmp_path):
    write_model("clip", tmp_path / "a")
    write_model("clip", tmp_path / "b", seed=1)
    tower = TransformersTextEncoder(tmp_path / "a")
    assert tower.fingerprint == TransformersTextEncoder(tmp_path / "a").fingerprint
    assert tower.fingerprint != TransformersTextEncoder(tmp_path / "b").fingerprint
    assert copy.deepcopy(tower) is tower
    other = TransformersTextEncoder(tmp_path / "a")
    with torch.no_grad():
        other.model.visual_projection.weight.add_(1.0)
    assert other.fingerprint == tower.fingerprint
    with torch.no_grad():
        other = TransformersTextEncoder(tmp_path / "a")
        other.model.text_projection.weight.add_(1.0)
    assert other.fingerprint != tower.fingerprint


def test_sentence_encoders_pool_as_their_files_say(tmp_path):
    model = write_model("bert", tmp_path)
    modules = [
        {"type": "sentence_transformers.models.Transformer"},
        {"type": "sentence_transformers.models.Pooling"},
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6}))
    tower = TransformersTextEncoder(tmp_path)
    assert tower.pooling == "cls" and tower.context_length == 6
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([ids(TEXTS[1], 6)])).last_hidden_state[0, 0]
    torch.testing.assert_close(tower.encode([TEXTS[1]])[0], expected, atol=1e-5, rtol=1e-5)
    mean = TransformersTextEncoder(tmp_path, pooling="mean")
    assert mean.fingerprint != tower.fingerprint
    (tmp_path / "modules.json").write_text(
        json.dumps([*modules, {"type": "sentence_transformers.models.Dense"}])
    )
    with pytest.raises(VidsslError, match="layers after the pooling, which are not supported: Dense"):
        TransformersTextEncoder(tmp_path)


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(VidsslError, match="no transformers model"):
        TransformersTextEncoder(tmp_path)
    write_model("bert", tmp_path)
    with pytest.raises(VidsslError, match="BertModel has no projection"):
        TransformersTextEncoder(tmp_path, pooling="projection")
    with pytest.raises(VidsslError, match="pooling 'max': unknown"):
        TransformersTextEncoder(tmp_path, pooling="max")
    with pytest.raises(VidsslError, match="list of strings"):
        TransformersTextEncoder(tmp_path).encode("a juggler")


def test_missing_weights_are_an_error(tmp_path):
    from safetensors.torch import load_file, save_file

    write_model("clip-text", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(
        {k: v for k, v in tensors.items() if "fc1" not in k}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(VidsslError, match=r"4 weights are missing: .*fc1"):
        TransformersTextEncoder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(VidsslError, match="cannot be loaded by transformers"):
        TransformersTextEncoder(tmp_path)


def test_towers_are_loaded_from_whatever_names_them(tmp_path, tiny_clip):
    import vidssl
    from vidssl.models.export import save_encoder

    write_model("clip-text", tmp_path / "hf")
    assert isinstance(load_text_tower(tmp_path / "hf"), TransformersTextEncoder)
    towers = [load_text_tower(tiny_clip), load_text_tower(f"local-dir:{tiny_clip}")]
    exported = save_encoder(vidssl.create_model(f"local-dir:{tiny_clip}"), tmp_path / "exported")
    towers.append(load_text_tower(exported))
    assert all(isinstance(tower, TextEncoder) for tower in towers)
    assert len({tower.fingerprint for tower in towers}) == 1
    bare = save_encoder(vidssl.create_model(f"local-dir:{tiny_clip}"), tmp_path / "bare", text=False)
    with pytest.raises(VidsslError, match="has no text tower"):
        load_text_tower(bare)
    with pytest.raises(VidsslError, match="ViT-B-17"):
        load_text_tower("ViT-B-17")


def test_a_space_of_a_sentence_encoder(tmp_path):
    write_model("bert", tmp_path)
    space = build_space(example(), TransformersTextEncoder(tmp_path))
    assert space.dim == 16 and len(space) == 3
    torch.testing.assert_close(space.category.norm(dim=1), torch.ones(3))
