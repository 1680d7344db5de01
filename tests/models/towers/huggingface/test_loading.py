"""What is read of a model's folder, and every way in which it can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import vidssl
from tests.models.tiny_weights import one_line
from tests.models.towers.huggingface.tiny import noise, tiny
from vidssl.errors import VidsslError
from vidssl.models.towers.huggingface.package import statistics

BIAS = "encoder.layer.0.attention.attention.query.bias"


def edit(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def renamed(tensors: dict[str, Tensor]) -> None:
    """The q and v biases under names that no release knows, which transformers would fill with zeros."""
    for key in [key for key in tensors if key.endswith(("q_bias", "query.bias"))]:
        tensors[key.replace("q_bias", "qbias").replace("query.bias", "qbias")] = tensors.pop(key)


def of_another(tensors: dict[str, Tensor]) -> None:
    tensors.clear()
    tensors["visual.proj"] = torch.zeros(3)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "biases of other names": (
        lambda folder: edit(folder, renamed),
        rf"2 missing \({BIAS}, .*2 unexpected \(encoder.layer.0.attention.attention.qbias",
    ),
    "a bias that is not there": (
        lambda folder: edit(
            folder, lambda x: x.pop(next(key for key in x if "0.attention" in key and "v" in key))
        ),
        "1 missing",
    ),
    "another shape": (
        lambda folder: edit(
            folder, lambda x: x.update({key: x[key][:1] for key in x if "projection.bias" in key})
        ),
        r"1 of another shape \(embeddings.patch_embeddings.projection.bias \(1,\) instead of \(24,\)",
    ),
    "not finite": (
        lambda folder: edit(
            folder, lambda x: [value.fill_(torch.nan) for key, value in x.items() if "layernorm" in key]
        ),
        "weights are not finite",
    ),
    "another model's weights": (
        lambda folder: edit(folder, of_another),
        "weights of another model than VideoMAEModel",
    ),
    "another model's config": (
        lambda folder: configure(folder, model_type="timesformer"),
        "weights do not fit TimesformerModel",
    ),
    "a wrong config": (
        lambda folder: configure(folder, hidden_size="many"),
        "no videomae can be made of its config",
    ),
    "heads that do not divide": (
        lambda folder: configure(folder, num_attention_heads=5),
        "no videomae can be made",
    ),
    "an unknown model": (lambda folder: configure(folder, model_type="videomea"), "did you mean 'videomae'"),
    "a text tower": (
        lambda folder: configure(folder, model_type="clip_text_model"),
        "a text tower alone has no images",
    ),
    "code": (
        lambda folder: configure(folder, auto_map={"AutoModel": "x.Y"}),
        "wants code of its repository to be run .*refused",
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "has a config.json and no weights",
    ),
    "pickled weights": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "has its weights in pytorch_model.bin only",
    ),
    "damage": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"),
        "cannot be read as safetensors",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    tiny("VideoMAEModel", folder)
    return folder


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_wrong_is_said_in_a_line(
    how: str, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in sound.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damage, words = BROKEN[how]
    damage(tmp_path)
    with pytest.raises(VidsslError, match=words) as error:
        vidssl.load_encoder(f"transformers/{tmp_path}")
    one_line(error)
    printed = capsys.readouterr()
    assert printed.out + printed.err == ""


def test_a_bias_that_arrives_as_zeros_is_noticed(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a release of transformers that drops it without a word."""
    from transformers import VideoMAEModel

    original = VideoMAEModel.from_pretrained

    def forgetful(*args: Any, **options: Any) -> Any:
        network, info = original(*args, **options)
        with torch.no_grad():
            network.get_parameter(BIAS).zero_()
        return network, info

    monkeypatch.setattr(VideoMAEModel, "from_pretrained", forgetful)
    with pytest.raises(VidsslError, match="loads these weights wrongly"):
        vidssl.load_encoder(f"transformers/{sound}")


def test_older_names_of_biases_are_known(sound: Path, tmp_path: Path) -> None:
    """As files of the hub have them, and as current releases have them in memory."""
    for file in sound.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    older, newer = ("attention.q_bias", "attention.v_bias"), ("attention.query.bias", "attention.value.bias")
    expected = vidssl.load_encoder(f"transformers/{sound}").state_dict()
    assert float(expected[f"net.{BIAS}"].abs().min()) > 0
    for before, after in ((newer, older), (older, newer)):

        def rename(
            tensors: dict[str, Tensor], before: tuple[str, str] = before, after: tuple[str, str] = after
        ) -> None:
            for old, new in zip(before, after, strict=True):
                for key in [key for key in tensors if key.endswith(old)]:
                    tensors[key.removesuffix(old) + new] = tensors.pop(key)

        edit(tmp_path, rename)
        found = vidssl.load_encoder(f"transformers/{tmp_path}").state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_weights_in_several_files(sound: Path, tmp_path: Path) -> None:
    tensors = load_file(sound / "model.safetensors")
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, tmp_path / file)
    (tmp_path / "config.json").write_bytes((sound / "config.json").read_bytes())
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    clips = noise(1, 3, 4, 16, 16)
    found, expected = (
        vidssl.load_encoder(f"transformers/{folder}")(clips).clip for folder in (tmp_path, sound)
    )
    assert torch.equal(found, expected)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(VidsslError, match=r"names b\.safetensors, which is not there"):
        vidssl.load_encoder(f"transformers/{tmp_path}")


def test_half_precision_is_widened(sound: Path, tmp_path: Path) -> None:
    for file in sound.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    edit(tmp_path, lambda x: x.update({key: value.half() for key, value in x.items()}))
    encoder = vidssl.load_encoder(f"transformers/{tmp_path}")
    assert {value.dtype for value in encoder.state_dict().values()} == {torch.float32}


PROCESSORS = [
    "VideoMAEImageProcessor",
    "VivitImageProcessor",
    "VivitVideoProcessor",
    "VJEPA2VideoProcessor",
    "SiglipImageProcessor",
]


@pytest.mark.parametrize("processor", PROCESSORS)
def test_statistics_are_what_the_processor_does(processor: str, tmp_path: Path) -> None:
    import transformers

    kind: Any = getattr(transformers, processor)
    made = kind(do_resize=False, do_center_crop=False)
    made.save_pretrained(tmp_path)
    [file] = tmp_path.glob("*.json")
    mean, std = statistics(json.loads(file.read_text()), ((9,) * 3, (9,) * 3))
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    shown = made(
        frames if "Video" in processor.removeprefix("VideoMAE") else list(frames), return_tensors="pt"
    )
    expected = next(iter(shown.values())).reshape(2, 3, 16, 16)
    scaled = torch.from_numpy(frames) / 255
    own = (scaled - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(own, expected.float(), atol=1e-5, rtol=0)


def test_statistics_of_other_configs() -> None:
    default = ((0.1,) * 3, (0.2,) * 3)
    assert statistics({}, default) == default
    assert statistics({"do_normalize": False}, default) == ((0.0,) * 3, (1.0,) * 3)
    inner = {"image_mean": [0.3] * 3, "image_std": [0.4] * 3}
    for nested in (inner, {"image_processor": inner}, {"video_processor": inner}):
        mean, std = statistics(nested, default)
        assert (mean, std) == ((0.3,) * 3, (0.4,) * 3)


def test_a_hub_out_of_reach(offline: None) -> None:
    with pytest.raises(VidsslError, match="hub cannot be reached"):
        vidssl.load_encoder("transformers/org/name")
    with pytest.raises(VidsslError, match="no such folder, and no repository"):
        vidssl.load_encoder("transformers/models/of/mine")


def test_a_repository_of_the_hub(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are asked for by name; what a repository lacks is no error unless it is needed."""
    asked: list[str] = []

    def hub_file(repo: str, name: str) -> Path:
        asked.append(f"{repo}/{name}")
        if not (sound / name).is_file():
            raise VidsslError(f"hf-hub:{repo}: the repository has no {name}")
        return sound / name

    monkeypatch.setattr("vidssl.models.towers.huggingface.package.hub_file", hub_file)
    encoder = vidssl.load_encoder("transformers/org/videomae-tiny")
    assert encoder.spec["name"] == encoder.spec["pretrained"] == "transformers/org/videomae-tiny"
    expected = vidssl.load_encoder(f"transformers/{sound}").state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in encoder.state_dict().items())
    assert asked[0] == "org/videomae-tiny/config.json"
    assert not any(name.endswith((".bin", ".py")) for name in asked)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 32}, "unknown option 'image_size'"),
        ({"chunk_frames": 0}, "chunk_frames: 0"),
        ({"load_weights": 1}, "load_weights"),
    ],
)
def test_options(sound: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(VidsslError, match=words):
        vidssl.create_model(f"transformers/{sound}", **options)


def test_a_start_without_weights(sound: Path) -> None:
    torch.manual_seed(0)
    encoder = vidssl.create_model(f"transformers/{sound}", load_weights=False)
    assert encoder.spec["pretrained"] is None
    known = vidssl.load_encoder(f"transformers/{sound}").state_dict()
    assert not any(
        torch.equal(value, known[key]) for key, value in encoder.state_dict().items() if "weight" in key
    )
