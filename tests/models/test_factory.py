"""create_model: where weights come from, and every way in which that goes wrong."""

from __future__ import annotations

import json
import pickle
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import vidssl
from tests.tiny_clip import TINY_CONFIG, tiny_config, write_tiny_clip
from vidssl.errors import VidsslError
from vidssl.models.factory import build_from_spec
from vidssl.models.towers.clip import FrameAverageEncoder


@pytest.fixture
def tiny_name(monkeypatch: pytest.MonkeyPatch) -> str:
    """`ViT-tiny` and its QuickGELU twin as architectures of open_clip."""
    from open_clip import factory

    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny", TINY_CONFIG)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny-quickgelu", TINY_CONFIG | {"quick_gelu": True})
    return "ViT-tiny"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_address(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "open_clip_model.safetensors")


def assert_carries(encoder: vidssl.models.encoder.VideoEncoder, folder: Path) -> None:
    tensors = tensors_of(folder)
    assert torch.equal(encoder.state_dict()["visual.proj"], tensors["visual.proj"])
    assert encoder.text is not None
    assert torch.equal(encoder.text.state_dict()["text_projection"], tensors["text_projection"])


def one_line(error: pytest.ExceptionInfo[VidsslError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return message


def test_random_weights_follow_the_seed_and_touch_nothing_else(tiny_name: str) -> None:
    import logging

    handlers = list(logging.getLogger().handlers)
    states = []
    for seed, text in ((1, True), (1, False), (2, True)):
        torch.manual_seed(seed)
        states.append(vidssl.create_model(tiny_name, load_text=text, temporal_init="random").state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["visual.proj"], states[2]["visual.proj"])
    assert logging.getLogger().handlers == handlers
    from open_clip import factory

    assert factory._MODEL_CONFIGS[tiny_name] == TINY_CONFIG


def test_every_source_of_the_same_weights(tiny_name: str, tiny_clip: Path, tmp_path: Path) -> None:
    tensors = tensors_of(tiny_clip)
    torch.save(tensors, tmp_path / "plain.pt")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in tensors.items()}}, tmp_path / "wrapped.bin"
    )
    prefixes = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")
    custom = {f"text.{k}" if k.startswith(prefixes) else k: v for k, v in tensors.items()}
    save_file(custom, tmp_path / "custom.safetensors")
    files = [tmp_path / "plain.pt", tmp_path / "wrapped.bin", tmp_path / "custom.safetensors"]
    for pretrained in (*map(str, files), f"local-dir:{tiny_clip}"):
        encoder = vidssl.create_model(tiny_name, pretrained)
        assert_carries(encoder, tiny_clip)
        assert encoder.spec["pretrained"] == pretrained
    assert_carries(vidssl.create_model(f"local-dir:{tiny_clip}"), tiny_clip)
    assert_carries(vidssl.create_model(f"local-dir:{tiny_clip}", str(files[0])), tiny_clip)
    random = vidssl.create_model(f"local-dir:{tiny_clip}", load_weights=False)
    assert random.spec["pretrained"] is None
    assert not torch.equal(random.state_dict()["visual.proj"], tensors["visual.proj"])


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


# --- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "ViT-B-61"}, "did you mean 'ViT-B-16'?"),
        ({"name": "nothing like it"}, "local-dir:/path"),
        ({"name": "ViT-B-16", "pretrained": "laion2b_s34b_b88"}, "did you mean 'laion2b_s34b_b88k'?"),
        ({"name": "ViT-B-16", "pretrained": "imagenet"}, "tags: openai, laion400m_e31"),
        ({"name": "ViT-B-16", "pretrained": "openai"}, "did you mean 'ViT-B-16-quickgelu'?"),
        ({"name": "ViT-B-16", "pretrained": "/nowhere/x.pt"}, "no such checkpoint file"),
        ({"name": "ViT-B-16", "pretrained": "weights/x.npz"}, "no such checkpoint file"),
        ({"name": "local-dir:/nowhere"}, "no such folder"),
        ({"name": "ViT-B-16", "temporal": "dividend"}, "did you mean 'divided'?"),
        ({"name": "ViT-B-16", "cls_mod": "shared"}, "did you mean 'cls_mode'?"),
        ({"name": "ViT-B-16", "cls_mode": "share"}, "did you mean 'shared'?"),
        ({"name": "ViT-B-16", "temporal_init": "zero"}, "allowed: copy, random"),
        ({"name": "ViT-B-16", "max_frames": 0}, "max_frames: 0"),
        ({"name": "ViT-B-16", "max_frames": "8"}, "max_frames: '8'"),
        ({"name": "ViT-B-16", "load_text": 1}, "true or false"),
        ({"name": "RN50", "load_text": False}, "a ResNet"),
        ({"name": "ViT-B-16-SigLIP", "load_text": False}, "a timm trunk"),
        ({"name": "coca_ViT-B-32", "load_text": False}, "captioning"),
    ],
)
def test_mistakes_are_one_clear_line(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(VidsslError) as error:
        vidssl.create_model(**arguments)
    assert words in one_line(error)


def test_the_hub_out_of_reach_is_one_quick_error(offline: None) -> None:
    for name, pretrained in (("hf-hub:org/repo", None), ("ViT-B-16-quickgelu", "openai")):
        with pytest.raises(VidsslError, match="cannot be reached") as error:
            vidssl.create_model(name, pretrained)
        assert "local-dir:" in one_line(error)


@pytest.mark.parametrize("kind", ["missing", "unexpected", "shape", "foreign", "text"])
def test_weights_that_do_not_fit_list_their_keys(
    kind: str, tiny_name: str, tiny_clip: Path, tmp_path: Path
) -> None:
    tensors = tensors_of(tiny_clip)
    if kind == "missing":
        del tensors["visual.ln_post.weight"]
    elif kind == "unexpected":
        tensors["visual.extra"] = torch.zeros(1)
    elif kind == "shape":
        tensors["visual.proj"] = torch.zeros(64, 16)
    elif kind == "text":
        tensors = {key: value for key, value in tensors.items() if key.startswith("visual.")}
    else:
        tensors = {f"backbone.{key}": value for key, value in tensors.items()}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(VidsslError) as error:
        vidssl.create_model(tiny_name, str(tmp_path / "x.safetensors"))
    words = {
        "missing": "1 missing (visual.ln_post.weight)",
        "unexpected": "1 unexpected (visual.extra)",
        "shape": "1 of another shape (visual.proj (64, 16) instead of (64, 32))",
        "text": "load_text=False loads the image tower only",
        "foreign": "not one of the",
    }
    assert words[kind] in one_line(error)
    assert len(one_line(error)) < 900
    if kind == "text":
        vidssl.create_model(tiny_name, str(tmp_path / "x.safetensors"), load_text=False)


def test_another_image_size_has_to_be_asked_for(tiny_name: str, tiny_clip: Path, tmp_path: Path) -> None:
    larger = write_tiny_clip(tmp_path, tiny_config(image_size=48))
    file = str(larger / "open_clip_model.safetensors")
    with pytest.raises(VidsslError, match="image_size= interpolates"):
        vidssl.create_model(tiny_name, file)
    with pytest.raises(VidsslError, match=r"vision_cfg\.image_size 48 instead of 32"):
        vidssl.create_model(tiny_name, f"local-dir:{larger}")
    for pretrained in (file, f"local-dir:{larger}"):
        assert vidssl.create_model(tiny_name, pretrained, image_size=32).image_size == 32


def test_a_folder_of_another_architecture_names_the_fields(tiny_name: str, tmp_path: Path) -> None:
    folder = write_tiny_clip(tmp_path, tiny_config(layers=1, patch_size=16) | {"quick_gelu": True})
    with pytest.raises(VidsslError, match="another architecture than ViT-tiny") as error:
        vidssl.create_model(tiny_name, f"local-dir:{folder}")
    message = one_line(error)
    assert "quick_gelu True instead of False" in message
    assert "vision_cfg.layers 1 instead of 2" in message
    assert "vision_cfg.patch_size 16 instead of 8" in message
    assert "width" not in message


def test_openai_weights_need_quick_gelu(tiny_name: str, tiny_clip: Path, tmp_path: Path) -> None:
    tensors = tensors_of(tiny_clip) | {
        "input_resolution": torch.tensor(32),
        "vocab_size": torch.tensor(49408),
    }
    torch.save(tensors, tmp_path / "openai.pt")
    with pytest.raises(VidsslError, match="QuickGELU"):
        vidssl.create_model(tiny_name, str(tmp_path / "openai.pt"))
    assert_carries(vidssl.create_model(f"{tiny_name}-quickgelu", str(tmp_path / "openai.pt")), tiny_clip)


class Payload:
    """Pickles to a call that would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


def test_nothing_in_a_checkpoint_is_executed(tiny_name: str, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    torch.save({"state_dict": {"x": torch.zeros(1)}, "args": Payload(target)}, tmp_path / "evil.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Payload(target)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "script.pt")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00")
    (tmp_path / "torn.pt").write_bytes(b"")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    for name in ("evil.pt", "raw.pt", "script.pt", "torn.safetensors", "torn.pt", "list.pt"):
        with pytest.raises(VidsslError, match=name) as error:
            vidssl.create_model(tiny_name, str(tmp_path / name))
        one_line(error)
    assert not target.exists()


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


# --- other towers and specs ----------------------------------------------------------------------------------------------


def test_a_resnet_is_averaged_over_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import factory

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": TINY_CONFIG["text_cfg"],
    }
    monkeypatch.setitem(factory._MODEL_CONFIGS, "RN-tiny", config)
    encoder = vidssl.create_model("RN-tiny", temporal="none").eval()
    assert isinstance(encoder, FrameAverageEncoder)
    clips = torch.randn(2, 3, 3, 32, 32)
    features = encoder(clips)
    assert features.frames.shape == (2, 3, 16)
    torch.testing.assert_close(features.frames[1, 2], encoder.visual(clips[1:, :, 2])[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(features.clip, features.frames.mean(dim=1))
    with pytest.raises(VidsslError, match="no patch tokens"):
        encoder(clips, patches=True)


@pytest.mark.parametrize("temporal", ["divided", "none"])
def test_a_spec_rebuilds_the_module(temporal: str, tiny_clip: Path) -> None:
    encoder = vidssl.create_model(
        f"local-dir:{tiny_clip}", temporal=temporal, cls_mode="shared", max_frames=3
    )
    spec = json.loads(json.dumps(encoder.spec))
    twin = build_from_spec(spec, text=False)
    twin.load_state_dict(encoder.state_dict())
    clips = torch.randn(1, 3, 4, 32, 32)
    assert torch.equal(twin(clips).clip, encoder(clips).clip)
    assert twin.spec == encoder.spec
    assert twin.text is None
    assert build_from_spec(spec, text=True).text is not None


@pytest.mark.parametrize("damage", ["family", "temporal", "model_cfg", "options"])
def test_a_damaged_spec_is_an_error(damage: str, tiny_clip: Path) -> None:
    spec = dict(vidssl.create_model(f"local-dir:{tiny_clip}", load_text=False).spec)
    spec[damage] = "something else"
    with pytest.raises(VidsslError):
        build_from_spec(spec, text=False)
