"""What self-distillation in a concept space is worth, beside a baseline that needs no training.

    python benchmarks/lss.py

A small image CLIP learns from captioned single frames what is red and what lies behind it.
The videos differ from those frames in one way that is easy to overlook: a warm, dim light. It moves all image features
by about the same amount, and so towards the texts of some colours: these become hubs, which the plain classifier answers
far too often. 56 classes ("red shape on a blue background"), 4 clips of each to train on without their labels, 6 to test.

Subtracting each class's mean score over the test videos undoes most of the shift without any training ("debiased"). Training
with a centre on the teacher can undo it too; without a prior it should feed the hubs instead, which is the negative control.
`half` trains with the concepts of half the classes only and is tested on all.

What spaces add: `names` trains with names alone, `center` with names and descriptions, `attributes` with the shapes' colours and
the backgrounds' beside them (8 of each), `half_attributes` likewise with half of the classes, `shuffled` likewise, but with each concept's attributes given to another one.

    python benchmarks/lss.py --arms names center attributes shuffled half half_attributes --name lss_attributes

One run takes about half a minute of one core, all of them about six minutes; table and figures are written to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vidssl.concepts.prompts import Attributes, AttributeTemplates, ConceptFile, write_concepts
from vidssl.concepts.vocabulary import load_concepts
from vidssl.config import load_config
from vidssl.data.cache.videos import cached
from vidssl.data.dataset import ClipDataset
from vidssl.data.decode.open import open_video
from vidssl.data.encode import write_video
from vidssl.evaluation import EvalOptions, zero_shot
from vidssl.synthetic import clip as toy_clip
from vidssl.synthetic.captions import compose_caption, frame_words
from vidssl.synthetic.sprites import HUES, random_sprite, render_clip
from vidssl.training import pretrain, setup

RESULTS = Path(__file__).parent / "results"
SIZE, FRAMES, FPS = 32, 12, 8
TRAIN_CLIPS, VAL_CLIPS = 4, 6  # of each class
CLIP_IMAGES, CLIP_STEPS, CLIP_BATCH = 1500, 250, 96
LIGHT = (0.8, (40, 20, 0))  # gain, and what is added to red, green, blue (of 255)
TEMPERATURE = (
    0.06  # that of the small CLIP itself: its cosines lie ten times further apart than a large one's
)
KEPT = {
    "colour": 0.8,
    "background": 0.8,
    "size": 0.3,
    "shape": 0.3,
    "position": 0.3,
}  # of the words of a frame
ARMS: dict[str, dict[str, Any]] = {
    "center": {"prior": "center"},
    "none": {"prior": "none"},
    "half": {"prior": "center", "vocabulary": "half"},
    "names": {"spaces": ["category"]},
    "attributes": {"spaces": ["category", "description", "objects", "scene"]},
    "half_attributes": {"spaces": ["category", "description", "objects", "scene"], "vocabulary": "half"},
    "shuffled": {"spaces": ["category", "description", "objects", "scene"], "vocabulary": "shuffled"},
}
ROWS = ("untrained", "untrained, debiased (transductive)", "trained", "trained, debiased (transductive)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vidssl-lss")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--name", default="lss", help="of the files in results/")
    parser.add_argument(
        "--table-only", action="store_true", help="write the table of the runs that are there"
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    # So that the network and not the decoder takes the time.
    opener = cached(open_video, None, "memory")
    setup.ClipDataset = functools.partial(ClipDataset, opener=opener)  # type: ignore[misc,assignment]
    for seed in [] if arguments.table_only else arguments.seeds:
        folder = prepare(arguments.work / f"seed{seed}", seed)
        for arm in arguments.arms:
            run_one(arm, seed, folder, arguments)
    write_table(arguments)


def run_one(arm: str, seed: int, folder: Path, arguments: argparse.Namespace) -> None:
    """Train once and classify, unless the result is there."""
    file = folder / f"{arm}-{arguments.steps}-{arguments.lr:g}.json"
    if file.exists():
        return
    options = ARMS[arm]
    run = folder / f"run-{arm}"
    vocabulary = folder / f"{options.get('vocabulary', 'all')}.json"
    overrides = [
        f"output={run}", f"seed={seed}", f"data.train={folder / 'train'}", "data.window_seconds=null",
        "data.workers=0", "data.decode_size=32",
        "views=[{count: 2, frames: 4, size: 32, scale: [0.5, 1.0], jitter: [0.2, 0.2, 0.2, 0.0], jitter_p: 0.5, "
        "gray_p: 0.0, blur_p: 0.0}]",
        f"model.name=local-dir:{folder / 'clip'}", f"model.pretrained=local-dir:{folder / 'clip'}",
        f"objective.concept.vocabulary={vocabulary}", f"objective.concept.prior={options.get('prior', 'center')}",
        f"objective.concept.spaces={json.dumps(options.get('spaces', ['category', 'description']))}",
        f"objective.concept.student_temperature={TEMPERATURE}",
        f"objective.concept.teacher_temperature={TEMPERATURE}",
        "teacher.momentum=0.9", f"train.steps={arguments.steps}", f"train.lr={arguments.lr}", "train.log_every=20",
        f"train.checkpoint_every={arguments.steps}", "train.layer_decay=1.0",
    ]  # fmt: skip
    pretrain(load_config("lss_small", overrides))
    show = EvalOptions(clips=1, frames=4, batch_size=56, workers=0)
    result = zero_shot(run, folder / "val", classes=str(folder / "all.json"), templates="a {}", options=show)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    scores = {row: result["scores"][row]["top1"] for row in ROWS}
    last = {key: value for key, value in log[-1].items() if key.startswith("concept/")}
    first = {key: value for key, value in log[0].items() if key.startswith("concept/")}
    record = {
        "arm": arm,
        "seed": seed,
        "scores": scores,
        "names": {**result["names"], "vocabulary": vocabulary.stem},
        "first": first,
        "last": last,
    }
    file.write_text(json.dumps(record, indent=1))
    print(f"{arm} seed {seed}: {scores}", flush=True)


def prepare(folder: Path, seed: int) -> Path:
    """CLIP, videos and the two vocabularies of one seed."""
    if (folder / "ready").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    concepts = with_attributes(load_concepts("sprites"))
    write_concepts(concepts, folder / "all.json")
    rng = np.random.default_rng(seed)
    order = np.random.default_rng((seed, 1)).permutation(len(concepts))
    write_concepts(with_attributes(concepts, order), folder / "shuffled.json")
    half = sorted(rng.permutation(len(concepts))[: len(concepts) // 2])
    kept = tuple(concepts.concepts[row] for row in half)
    write_concepts(concepts.model_copy(update={"name": "half", "concepts": kept}), folder / "half.json")
    train_clip(folder / "clip", rng, seed)
    write_videos(folder, concepts, rng)
    (folder / "ready").touch()
    return folder


def with_attributes(concepts: ConceptFile, order: Sequence[int] | None = None) -> ConceptFile:
    """What the shapes and backgrounds are; `order` gives concept i those of concept order[i] instead."""
    names = [concepts.names[i] for i in (range(len(concepts)) if order is None else order)]
    halves = [name.split(" on ") for name in names]
    templates = AttributeTemplates(objects=("a {name}",), scene=("a shape on {name}",))
    return concepts.model_copy(
        update={
            "templates": concepts.templates.model_copy(update={"attributes": templates}),
            "concepts": tuple(
                concept.model_copy(update={"attributes": Attributes(objects=(shape,), scene=(background,))})
                for concept, (shape, background) in zip(concepts.concepts, halves, strict=True)
            ),
        }
    )


def train_clip(folder: Path, rng: np.random.Generator, seed: int) -> None:
    """A CLIP of two blocks, which has seen frames in plain light only."""
    images = np.empty((CLIP_IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    captions = []
    for row in range(CLIP_IMAGES):
        sprite = random_sprite(rng)
        images[row] = render_clip(sprite, frames=1, size=SIZE, seed=int(rng.integers(2**31)))[0]
        words = frame_words(sprite)
        captions.append(compose_caption({key: words[key] for key, p in KEPT.items() if rng.random() < p}))
    toy_clip.toy_clip_config = small_clip_config
    toy_clip.CONTEXT_LENGTH = 20
    toy_clip.LEARNING_RATE = 2e-3
    toy_clip.train_toy_clip(images, captions, folder, steps=CLIP_STEPS, batch_size=CLIP_BATCH, seed=seed)


def small_clip_config(image_size: int) -> dict[str, Any]:
    vision = {"image_size": image_size, "patch_size": 8, "width": 64, "head_width": 32, "layers": 2}
    text = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    return {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}


def write_videos(folder: Path, concepts: ConceptFile, rng: np.random.Generator) -> None:
    """``{train,val}/<class>/<n>.mp4``: a sprite of these two colours moves and turns, in a warm and dim light."""
    gain, added = LIGHT
    colours = list(HUES)
    for split, count in (("train", TRAIN_CLIPS), ("val", VAL_CLIPS)):
        for name in concepts.names:
            words = name.split()
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                motion = rng.uniform(-1, 1, size=3) * (0.03, 0.03, 0.2)
                sprite = replace(
                    random_sprite(rng, vx=motion[0], vy=motion[1], spin=motion[2]),
                    fg_hue=colours.index(words[0]),
                    bg_hue=colours.index(words[-2]),
                )
                clip = render_clip(sprite, FRAMES, SIZE, seed=int(rng.integers(2**31)))
                lit = np.clip(gain * clip + np.array(added), 0, 255).astype(np.uint8)
                write_video(folder / split / name / f"{number}.mp4", lit, FPS)


def write_table(arguments: argparse.Namespace) -> None:
    """Mean over seeds with a 95 % t-interval, and the same of the difference to the untrained rows of the same seed."""
    pattern = f"seed*/*-{arguments.steps}-{arguments.lr:g}.json"
    runs = [json.loads(file.read_text()) for file in sorted(arguments.work.glob(pattern))]
    plain, debiased, trained, trained_debiased = ROWS
    untrained = {run["seed"]: run["scores"] for run in runs}
    lines = [
        "| | plain | against frame-CLIP | against frame-CLIP, debiased | debiased too | seeds |",
        "|---|---|---|---|---|---|",
        f"| frame-CLIP (untrained) | {summary([s[plain] for s in untrained.values()])} | | | "
        f"{summary([s[debiased] for s in untrained.values()])} | {len(untrained)} |",
    ]
    titles = {
        "center": "prior center (transductive in names)",
        "none": "control: prior none (transductive in names)",
        "half": "prior center, half of the names",
        "names": "names alone",
        "attributes": "names, descriptions, attributes",
        "half_attributes": "names, descriptions, attributes, of half of the classes",
        "shuffled": "control: attributes of other concepts",
    }
    for arm in arguments.arms:
        title = titles[arm]
        own = [run["scores"] for run in runs if run["arm"] == arm]
        if own:
            cells = [
                summary([s[trained] for s in own]),
                summary([s[trained] - s[plain] for s in own], sign=True),
                summary([s[trained] - s[debiased] for s in own], sign=True),
                summary([s[trained_debiased] for s in own]),
            ]
            lines.append(f"| {title} | {' | '.join(cells)} | {len(own)} |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.name}.md").write_text("\n".join(lines) + "\n")
    record = {
        "steps": arguments.steps,
        "lr": arguments.lr,
        "light": LIGHT,
        "temperature": TEMPERATURE,
        "runs": runs,
    }
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(lines))


def summary(values: list[float], sign: bool = False) -> str:
    """Percent: mean ± half a 95 % t-interval."""
    quantile = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}
    mean = f"{100 * statistics.fmean(values):{'+' if sign else ''}.1f}"
    if len(values) < 2:
        return mean
    half = quantile.get(len(values), 1.96) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean} ± {100 * half:.1f}"


if __name__ == "__main__":
    main()
