"""Which words name an action best: names, templates, descriptions, attributes, each with and without a sentence that negates.

    pip install --group benchmarks
    python benchmarks/texts.py ../shared/data/videos

Real videos, seen by the small image-text model with real weights of `image_text_model.py`, frames encoded once: 4 clips of a frame.
UCF101's videos have to be told from all 101 classes of UCF101, those of UT-Interaction (hugging, kicking, punching, pushing, shaking hands)
from all 51 of HMDB51, whose words ship with the package. A negating sentence is "This is not X.", X the other class with the nearest name.

zero-shot: the class whose mean prompt is nearest, also debiased (each class's mean score over the videos subtracted). distilled: a linear map on the features, which starts as the identity, learns from unlabelled
videos in the space of these words (concept distillation with a centre, `vidssl.objectives.concept`) and is tested by the same words, and by
names, on videos of other recordings: two halves of the recordings, each in turn, three seeds. The temperature of each space is where targets start with half
the entropy of a flat one, so that no space is favoured. Differences are paired over videos, with 95 % intervals over recordings.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from image_text_model import write_model
from torch import Tensor, nn

from vidssl.concepts.names import match_names
from vidssl.concepts.prompts import AttributeTemplates, Concept
from vidssl.concepts.templates import render, template_presets
from vidssl.concepts.vocabulary import load_concepts
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.evaluation.comparison import paired_comparison
from vidssl.evaluation.features import extract_features
from vidssl.evaluation.metrics import correct_rows, group_numbers
from vidssl.evaluation.setup import EvalOptions, load_subject
from vidssl.evaluation.zero_shot import zero_shot_scores
from vidssl.objectives.concept.losses import concept_distillation_loss, concept_logits, concept_probs
from vidssl.objectives.concept.priors import CenterPrior

RESULTS = Path(__file__).parent / "results"
SETS: dict[str, tuple[str, dict[str, str]]] = {
    "ucf101": ("ucf101", {}),
    "ut_interaction": (
        "hmdb51",
        {
            "punching": "punch",
            "hugging": "hug",
            "kicking": "kick",
            "pushing": "push",
            "hand_shaking": "shake hands",
        },
    ),
}
SEEDS, STEPS, BATCH, RATE = 3, 100, 32, 1e-4


class Data(NamedTuple):
    """views: (N, V, D) unit features of clips; labels: (N,) places among the names; groups: (N,) recordings."""

    views: Tensor
    labels: Tensor
    groups: Tensor
    concepts: tuple[Concept, ...]


def prompts_of(concepts: Sequence[Concept]) -> dict[str, list[list[str]]]:
    """Kind of words -> the texts of each class."""
    kinds = AttributeTemplates().model_dump()
    templates = template_presets()["clip_k700"]
    names = [[concept.name] for concept in concepts]
    sentences = [list(concept.descriptions) for concept in concepts]
    attributes = [
        [
            render(template, word)
            for kind, forms in kinds.items()
            for word in getattr(concept.attributes, kind)
            for template in forms
        ]
        for concept in concepts
        if concept.attributes is not None
    ]
    found = {
        "names": names,
        "templates": [[render(template, concept.name) for template in templates] for concept in concepts],
        "descriptions": sentences,
        "attributes": attributes,
    }
    if len(attributes) < len(concepts):
        raise SystemExit("a class has no attributes")
    both = zip(found["names"], sentences, strict=True)
    return {**found, "names, descriptions": [own + more for own, more in both]}


def negated(prompts: Mapping[str, list[list[str]]], nearest: Sequence[str]) -> dict[str, list[list[str]]]:
    """The same with one sentence more, which names what it is not."""
    return {
        f"{kind} + not": [[*own, f"This is not {other}."] for own, other in zip(texts, nearest, strict=True)]
        for kind, texts in prompts.items()
    }


def read(folder: Path, name: str, subject: Any) -> Data:
    """Videos of a set, with the features of their clips.

    Raises:
        SystemExit: where the set is not there.
    """
    vocabulary, spelled = SETS[name]
    concepts = load_concepts(vocabulary).concepts
    with (folder / "manifest.csv").open(newline="") as stream:
        rows = [
            row for row in csv.DictReader(stream) if row["path"].startswith((f"{name}/", f"assets/{name}/"))
        ]
    names = [spelled.get(row["label"], row["label"]) for row in rows]
    known = match_names(
        names, [concept.name for concept in concepts], [concept.aliases for concept in concepts]
    )
    chosen = [(row, place) for row, place in zip(rows, known, strict=True) if place is not None]
    if not chosen:
        raise SystemExit(f"{folder}: no videos of {name}")
    index = VideoIndex.of_files([folder / row["path"] for row, _ in chosen])
    found = extract_features(subject, index, apart=True, description=name)
    ok = found.ok["trained/unit"] & found.shown.all(dim=1)
    print(f"{name}: {int(ok.sum())} of {len(ok)} videos, {len(concepts)} classes to choose from")
    groups = group_numbers([row["group"] or None for row, _ in chosen])
    assert groups is not None
    labels = torch.tensor([place for _, place in chosen])
    return Data(found.features["trained/unit"][ok], labels[ok], groups[ok], concepts)


def temperature_of(logits: Tensor) -> float:
    """Where the mean entropy of the centred targets is half of log K (bisection)."""
    low, high = 1e-4, 10.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        probs = concept_probs(logits, middle, logits.mean(dim=0))
        flat = -(probs * probs.clamp_min(1e-30).log()).sum(dim=1).mean() / torch.tensor(logits.shape[1]).log()
        low, high = (low, middle) if flat > 0.5 else (middle, high)
    return middle


def distilled(views: Tensor, space: Tensor, seed: int) -> nn.Linear:
    """A map (D, D) of features, trained on views (N, V, D) without labels in the space (K, D)."""
    generator = torch.Generator().manual_seed(seed)
    width = views.shape[2]
    student = nn.Linear(width, width, bias=False)
    with torch.no_grad():
        student.weight.copy_(torch.eye(width))
    start = concept_logits(views.flatten(0, 1), space)
    temperature, prior = temperature_of(start), CenterPrior(len(space), momentum=0.9)
    prior.warm_start(start, temperature)
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.0)
    for _ in range(STEPS):
        rows = torch.randint(len(views), (BATCH,), generator=generator)
        pair = torch.randperm(views.shape[1], generator=generator)[:2]
        shown = [views[rows, view] for view in pair.tolist()]
        with torch.no_grad():  # the teacher is the untrained encoder
            logits = [concept_logits(view, space) for view in shown]
            targets = prior(logits, temperature)
            prior.update(logits, temperature)
        own = [concept_logits(student(view), space) for view in shown]
        loss = concept_distillation_loss(own, targets, temperature)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return student


def right(features: Tensor, space: Tensor, labels: Tensor, best: int = 1, debias: bool = False) -> Tensor:
    scores = zero_shot_scores(features, space, debias)
    return correct_rows(scores, labels, torch.ones(len(labels), dtype=torch.bool), best)


def measure(data: Data, encode: Any) -> dict[str, dict[str, Any]]:
    """Kind of words -> what it is worth, and the difference from names, and of a kind that negates from that without."""
    names = [concept.name for concept in data.concepts]
    unit = F.normalize(encode(names), dim=1)
    nearest = (unit @ unit.T).fill_diagonal_(-2).argmax(dim=1)
    prompts = prompts_of(data.concepts)
    prompts |= negated(prompts, [names[place] for place in nearest.tolist()])
    unique = list(dict.fromkeys(text for texts in prompts.values() for own in texts for text in own))
    row_of = dict(zip(unique, F.normalize(encode(unique), dim=1), strict=True))
    spaces, found, hits = {}, {}, {}
    for kind, texts in prompts.items():
        means = [torch.stack([row_of[text] for text in own]).mean(dim=0) for own in texts]
        spaces[kind] = F.normalize(torch.stack(means), dim=1)
    whole = data.views.mean(dim=1)
    halves = data.groups % 2 == 0
    for kind, space in spaces.items():
        hits[kind] = right(whole, space, data.labels)
        hits[f"{kind}: debiased"] = right(whole, space, data.labels, debias=True)
        trained: dict[str, list[Tensor]] = {"own": [], "names": []}
        for seed in range(SEEDS):
            both = {name: torch.zeros_like(hits[kind]) for name in trained}
            for half in (halves, ~halves):
                with torch.enable_grad():
                    student = distilled(data.views[~half], space, seed)
                with torch.no_grad():
                    mapped = student(data.views[half]).mean(dim=1)
                both["own"][half] = right(mapped, space, data.labels[half])
                both["names"][half] = right(mapped, spaces["names"], data.labels[half])
            for name, one in both.items():
                trained[name].append(one)
        found[kind] = {
            "top1": hits[kind].double().mean().item(),
            "top5": right(whole, space, data.labels, 5).double().mean().item(),
            "debiased": hits[f"{kind}: debiased"].double().mean().item(),
            "distilled": {
                name: [one.double().mean().item() for one in ones] for name, ones in trained.items()
            },
        }
        hits[f"{kind}: distilled"] = torch.stack(trained["own"]).double().mean(dim=0)
        print(kind, found[kind], flush=True)
    for kind, row in found.items():
        base = kind.removesuffix(" + not")
        for key, other in (("to names", "names"), ("to without", base)):
            if kind != other:
                row[key] = paired_comparison(hits[kind], hits[other], groups=data.groups)
                kinds = (f"{kind}: debiased", f"{other}: debiased")
                row[f"{key}, debiased"] = paired_comparison(
                    *(hits[name] for name in kinds), groups=data.groups
                )
        row["distilled to zero-shot"] = _interval(
            hits[f"{kind}: distilled"] - hits[kind].double(), data.groups
        )
    return found


def _interval(differences: Tensor, groups: Tensor) -> dict[str, Any]:
    from vidssl.evaluation.metrics import group_interval

    return {"difference": differences.mean().item(), "interval": group_interval(differences, groups)}


def table(name: str, record: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown."""
    lines = [
        f"**{name}**: {record['videos']} videos of {record['classes']} classes, {record['recordings']} recordings, "
        f"{record['choices']} classes to choose from (chance {100 / record['choices']:.1f} %).",
        "",
        '| words | top-1 | top-5 | against names | against the same without "not" | debiased | against names | against the same '
        'without "not" | distilled, own words (3 seeds) | distilled − zero-shot | distilled, tested by names |',
        "|" + "---|" * 11,
    ]
    for kind, row in record["rows"].items():
        means = [sum(row["distilled"][key]) / SEEDS for key in ("own", "names")]
        spread = max(row["distilled"]["own"]) - min(row["distilled"]["own"])
        cells = [
            kind,
            f"{100 * row['top1']:.1f}",
            f"{100 * row['top5']:.1f}",
            _points(row.get("to names")),
            _points(row.get("to without")),
            f"{100 * row['debiased']:.1f}",
            _points(row.get("to names, debiased")),
            _points(row.get("to without, debiased")),
            f"{100 * means[0]:.1f} (range {100 * spread:.1f})",
            _points(row["distilled to zero-shot"]),
            f"{100 * means[1]:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _points(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return ""
    low, high = record["interval"]
    return f"{100 * record['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, help="folder with manifest.csv")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--model", type=Path, help="folder of the model (default: made anew, a minute)")
    arguments = parser.parse_args()
    file = RESULTS / "texts.json"
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or write_model(Path(folder) / "image_text")
        shown = EvalOptions(frames=1, seconds=1.0, clips=4, workers=1, device="cpu")
        subject = load_subject(f"local-dir:{model}", shown)
        assert subject.encoder.text is not None
        for name in arguments.sets:
            data = read(arguments.videos, name, subject)
            with torch.no_grad():
                rows = measure(data, subject.encoder.text.encode)
            record = json.loads(file.read_text()) if file.is_file() else {}
            record[name] = {
                "videos": len(data.labels),
                "classes": len(data.labels.unique()),
                "recordings": len(data.groups.unique()),
                "choices": len(data.concepts),
                "rows": rows,
            }
            file.write_text(json.dumps(record, indent=1) + "\n")
            lines = [line for one in SETS if one in record for line in table(one, record[one])]
            (RESULTS / "texts.md").write_text("\n".join(lines))
            print("\n".join(table(name, record[name])), flush=True)


if __name__ == "__main__":
    main()
