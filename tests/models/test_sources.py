"""Where an architecture and its weights come from: folders, the hub, tags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vidssl
from tests.models.tiny_weights import assert_carries, one_line
from tests.tiny_clip import tiny_config, write_tiny_clip
from vidssl.errors import VidsslError


def test_mean_and_std_come_with_the_weights(tiny_name: str, tmp_path: Path) -> None:
    folder = write_tiny_clip(tmp_path, mean=[0.5, 0.4, 0.3], std=[0.2, 0.1, 0.3])
    for encoder in (
        vidssl.create_model(f"local-dir:{folder}", load_text=False),
        vidssl.create_model(tiny_name, f"local-dir:{folder}", load_text=False),
    ):
        assert (encoder.mean, encoder.std) == ((0.5, 0.4, 0.3), (0.2, 0.1, 0.3))


def test_hub_repository_and_tag_load_through_the_hubs_client(
    tiny_name: str, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_clip import pretrained

    asked: list[tuple[str, str]] = []

    def download(repo: str, name: str, **kwargs: Any) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        asked.append((repo, name))
        if not (tiny_clip / name).is_file():
            raise LocalEntryNotFoundError(name)
        return str(tiny_clip / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert_carries(vidssl.create_model("hf-hub:org/tiny"), tiny_clip)
    assert_carries(vidssl.create_model(tiny_name, "hf-hub:org/tiny"), tiny_clip)
    entry = {"hf_hub": "org/tagged/", "url": "", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    monkeypatch.setitem(pretrained._PRETRAINED, tiny_name, {"some_tag": entry})
    encoder = vidssl.create_model(tiny_name, "some-tag")
    assert_carries(encoder, tiny_clip)
    assert encoder.mean == (0.5, 0.5, 0.5)
    assert asked[-1] == ("org/tagged", "open_clip_model.safetensors")


def test_the_hub_out_of_reach_is_one_quick_error(offline: None) -> None:
    for name, pretrained in (("hf-hub:org/repo", None), ("ViT-B-16-quickgelu", "openai")):
        with pytest.raises(VidsslError, match="cannot be reached") as error:
            vidssl.create_model(name, pretrained)
        assert "local-dir:" in one_line(error)


def test_a_folder_of_another_architecture_names_the_fields(tiny_name: str, tmp_path: Path) -> None:
    folder = write_tiny_clip(tmp_path, tiny_config(layers=1, patch_size=16) | {"quick_gelu": True})
    with pytest.raises(VidsslError, match="another architecture than ViT-tiny") as error:
        vidssl.create_model(tiny_name, f"local-dir:{folder}")
    message = one_line(error)
    assert "quick_gelu True instead of False" in message
    assert "vision_cfg.layers 1 instead of 2" in message
    assert "vision_cfg.patch_size 16 instead of 8" in message
    assert "width" not in message


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_cfg": {"embed_dim": 1}}', "{"])
def test_damaged_folder_configs(text: str, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(text)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(VidsslError, match=r"open_clip_config\.json"):
        vidssl.create_model(f"local-dir:{tmp_path}")


def test_incomplete_folders(tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(VidsslError, match=r"needs its open_clip_config\.json"):
        vidssl.create_model(f"local-dir:{tmp_path}", load_weights=False)
    (tmp_path / "open_clip_config.json").write_bytes((tiny_clip / "open_clip_config.json").read_bytes())
    with pytest.raises(VidsslError, match="nothing to load"):
        vidssl.create_model(f"local-dir:{tmp_path}")
    config = json.loads((tiny_clip / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["depth"] = 3
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(VidsslError, match="depth"):
        vidssl.create_model(f"local-dir:{tmp_path}", load_weights=False)
