"""Scenes, and for each objective how an encoder is trained on videos of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from object_tracking.following import METRICS, STRIDE, WINDOW
from vidssl.config import Config, load_config, validate_config
from vidssl.demo import naming
from vidssl.demo import run as demo
from vidssl.files import write_json
from vidssl.synthetic.objects.folder import write_objects
from vidssl.synthetic.objects.scene import RADII, Difficulty

HARD = {"speed": 0.04, "spin": 15.0, "light": 0.8, "noise": 16.0}
SEVERAL = Difficulty(fewest=3, most=5, distractors=1, **HARD)  # to track in: 6 sequences
ALONE = Difficulty(
    fewest=1, most=1, distractors=0, **HARD
)  # to train on: what a video shows throughout is one object
SEQUENCES, VIDEOS, FRAMES = 6, 240, 16
SIZE, VIDEO_SIZE = 96, 64
STEPS, LAYER = 150, 2
# A CLIP ResNet of a block a stage, and a vision transformer, both small and from random weights.
TOWERS: dict[str, dict[str, Any]] = {
    "resnet": {"layers": [1, 1, 1, 1], "width": 16, "image_size": 32, "patch_size": None, "head_width": 32},
    "vit": {"layers": 3, "width": 128, "head_width": 32, "image_size": 64, "patch_size": 8},
}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1}
VIEW = {"frames": 1, "stride": 1, "size": 32, "scale": [0.15, 0.5], "flip": 0.5, "jitter": [0.4, 0.4, 0.2, 0.0], "jitter_p": 0.8,
        "gray_p": 0.0, "blur_p": 0.0}  # fmt: skip
HEADS = {"projector": [256, 128]}
SEVERAL_FRAMES = {"frames": 4, "stride": 2}
OBJECTIVES: dict[str, dict[str, dict[str, Any]]] = {
    "hsic": {"hsic": {"gamma": 3.0, "scale": 0.3, "learn_scale": False, "estimator": "exact", "last_norm": True, "target": False, **HEADS}},
    "infonce": {"infonce": {**HEADS}},
    "ressl": {"ressl": {"queue_size": 512, "norm": "batch", "last_norm": True, **HEADS}},
    "spectral": {"spectral": {"mu": 5.0, **HEADS}},
    "ldm": {"ldm": {"state_dim": 16, "entropy": "knn", "lr_multiplier": 10.0, "projector": [256, 8]}},
    "infonce, frames": {"temporal_infonce": {**HEADS}},
}  # fmt: skip

# Encoders of `vidssl demo`: what its folder calls them, and the layer (the convolutional one has as many stages as the tower above).
DEMO: dict[str, tuple[str, int | None]] = {
    "demo, before": ("run/initial", LAYER),
    "demo": ("run", LAYER),
    "demo's CLIP": (naming.CLIP, None),
}
CONCEPT = "demo's CLIP, concept"


def tower(work: Path, name: str) -> str:
    """What `vidssl.create_model` calls one of TOWERS, once `prepare` was called."""
    return f"local-dir:{work / name}"


def prepare(work: Path, seed: int) -> tuple[Path, Path]:
    """Write the towers' descriptions, and render: videos to train on, and sequences to track in, of a seed."""
    for name, vision in TOWERS.items():
        config = {"embed_dim": 128, "vision_cfg": vision, "text_cfg": TEXT}
        scale = {"mean": [0.45] * 3, "std": [0.225] * 3}
        write_json(work / name / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": scale})
    videos, sequences = work / f"videos-{seed}", work / f"sequences-{seed}"
    if not videos.is_dir():
        write_objects(videos, VIDEOS, FRAMES, VIDEO_SIZE, seed, ALONE, videos=True)
    if not sequences.is_dir():
        write_objects(sequences, SEQUENCES, FRAMES, SIZE, seed, SEVERAL)
    return videos, sequences


def recipe(work: Path, objective: str, seed: int, videos: Path) -> Config:
    """The same for all objectives but for what they need: ReSSL a weak view and a strong one, two of them several frames."""
    several = objective in ("ldm", "infonce, frames")
    view = {**VIEW, **(SEVERAL_FRAMES if several else {})}
    views: list[dict[str, Any]] = [{**view, "count": 2}]
    if objective == "ressl":
        weak = {"count": 1, "jitter_p": 0.0, "name": "weak"}
        views = [{**view, **weak}, {**view, "count": 1, "name": "strong", "teacher": False}]
    options = {"load_weights": False, "load_text": False}
    return validate_config(
        {
            "output": str(work / "runs" / f"{objective}-{seed}"),
            "seed": seed,
            "data": {"train": str(videos), "window_seconds": None, "decode_size": VIDEO_SIZE, "workers": 0, "check": False,
                     "cache": {"form": "memory"}},
            "views": views,
            "model": {"name": tower(work, "resnet"), "temporal": "none", "options": options},
            "objective": OBJECTIVES[objective],
            "teacher": {"momentum": 0.95, "final": 0.95},
            "train": {"batch_size": 32 if several else 64, "steps": STEPS, "lr": 2e-3, "precision": "fp32", "log_every": 25,
                      "checkpoint_every": STEPS, "warmup": 0.1},
        },
        objective,
    )  # fmt: skip


def concept_recipe(work: Path, seed: int, videos: Path, clip: Path) -> Config:
    """The demo's distillation of concepts in the order of time, but of the whole tower, on the videos of objects."""
    changes = {
        "output": work / "runs" / f"concept-{seed}",
        "seed": seed,
        "data.train": videos,
        "data.decode_size": VIDEO_SIZE,
        "model.name": f"local-dir:{clip}",
        "model.pretrained": f"local-dir:{clip}",
        "model.freeze": "none",
        "train.lr": 1e-3,  # a tenth, for the tower is trained too
    }
    return load_config("demo_concepts", [f"{key}={value}" for key, value in changes.items()])


def chosen(config: Config) -> dict[str, Any]:
    """What a recipe says that is not the default, so that an option that is new changes nothing where nobody chose it; nor does
    where decoded frames are kept."""
    said: dict[str, Any] = config.model_dump(mode="json", exclude_defaults=True)
    said["data"].pop("cache", None)
    return said


def fingerprint(row: str) -> str:
    """Of what a cell depends on but its seed: a cell is run again when it changes."""
    parts: list[Any] = [
        asdict(SEVERAL),
        RADII,
        SEQUENCES,
        FRAMES,
        SIZE,
        METRICS,
        STRIDE,
        WINDOW,
        LAYER,
        TOWERS,
    ]
    if row in OBJECTIVES:
        config = recipe(Path("work"), row, 0, Path("videos"))
        parts += [asdict(ALONE), VIDEOS, chosen(config)]
    if row in (*DEMO, CONCEPT):
        parts += [
            chosen(load_config("demo")),
            demo.TRAIN_CLIPS,
            demo.FRAMES,
            demo.SHOTS,
            demo.SIZE,
        ]
        parts += [naming.CAPTIONED, naming.SIZE, naming.STEPS, naming.BATCH]
    if row == CONCEPT:
        config = concept_recipe(Path("work"), 0, Path("videos"), Path("clip"))
        parts += [asdict(ALONE), VIDEOS, chosen(config)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
