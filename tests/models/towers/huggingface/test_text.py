"""Text towers of transformers' own CLIP, SigLIP and SigLIP 2."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import vidssl
from tests.models.towers.huggingface.test_loading import configure, edit
from tests.models.towers.huggingface.tiny import TEXT, noise, tiny
from tests.models.towers.test_text import write_word_tokenizer
from vidssl.errors import VidsslError
from vidssl.models.export import save_encoder

WORDS = ["juggling swimming", "swimming", "nonsense"]


@pytest.mark.parametrize("name", ["CLIPModel", "SiglipModel", "Siglip2Model"])
def test_texts_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    model = tiny(name, tmp_path / "theirs")
    write_word_tokenizer(tmp_path / "theirs")
    source = f"transformers/{tmp_path}/theirs"
    encoder = vidssl.load_encoder(source)
    text = encoder.text
    assert text is not None
    assert text.context_length == 12
    tokens = text.tokenizer(WORDS)  # type: ignore[attr-defined]
    with torch.no_grad():
        expected = model.get_text_features(input_ids=tokens).pooler_output
    torch.testing.assert_close(text.encode(WORDS), expected, atol=1e-5, rtol=0)
    assert text.temperature == pytest.approx(math.exp(-model.logit_scale.item()))
    assert text.bias == (model.logit_bias.item() if "Siglip" in name else None)
    folder = save_encoder(encoder, tmp_path / "ours")
    for again in (vidssl.load(folder), vidssl.create_model(source, str(folder), temporal="head").eval()):
        assert again.text is not None
        assert torch.equal(again.text.encode(WORDS), text.encode(WORDS))
        assert (again.text.temperature, again.text.bias) == (text.temperature, text.bias)
        torch.testing.assert_close(again(noise(1, 3, 2, 16, 16)).clip, encoder(noise(1, 3, 2, 16, 16)).clip)
    assert vidssl.create_model(source, temporal="none", load_text=False).text is None


def test_clip_has_its_vocabulary_without_files(tmp_path: Path) -> None:
    tiny("CLIPModel", tmp_path, text_config=TEXT | {"vocab_size": 49408, "max_position_embeddings": 77})
    encoder = vidssl.load_encoder(f"transformers/{tmp_path}")
    assert encoder.text is not None
    assert encoder.text.num_tokens("a video of swimming") == 6


def test_a_text_tower_that_is_not_whole(tmp_path: Path) -> None:
    tiny("SiglipModel", tmp_path)
    assert vidssl.load_encoder(f"transformers/{tmp_path}").text is None  # no tokenizer
    write_word_tokenizer(tmp_path)
    edit(tmp_path, lambda x: x.pop("text_model.head.bias"))
    with pytest.raises(
        VidsslError, match=r"1 missing \(head.bias\); load_text=False loads the image tower only"
    ):
        vidssl.load_encoder(f"transformers/{tmp_path}")
    assert vidssl.create_model(f"transformers/{tmp_path}", temporal="none", load_text=False).text is None
    configure(tmp_path, text_config=TEXT | {"hidden_size": 17, "projection_size": 24})
    with pytest.raises(VidsslError, match="no siglip can be made of its config"):
        vidssl.load_encoder(f"transformers/{tmp_path}")
