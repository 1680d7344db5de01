"""Do the descriptions carry meaning? Sentences look for their own class name, and for each other.

    python benchmarks/concept_text.py ENCODER_FOLDER

ENCODER_FOLDER is any encoder with a text tower that `vidssl concepts build` takes, or a sentence encoder as the
sentence-transformers project stores it (pooled by the mean). Two tables, written to benchmarks/results/:

- names: how often a class's name is the nearest of all names, or among the nearest five, for the mean of the sentences
  that do not name their class (all but the first), for each of them alone, and by position;
- sentences: how often a sentence is nearer to its class's other sentences than to another class's, as the nearest
  single sentence and by the mean of each class, and how often two sentences are alike (cosine above 0.9).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.concepts.vocabulary import load_concepts
from vidssl.models.load import load_text_tower

RESULTS = Path(__file__).parent / "results"
VOCABULARIES = (
    "k400",
    "ucf101",
    "hmdb51",
    "k400+ucf101+hmdb51",
    "k700",
    "ssv2",
    "k400+ucf101+hmdb51+k600+k700+ssv2",
)
POSITIONS = 4
ALIKE = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("encoder", type=Path, help="folder of a text encoder")
    parser.add_argument("--name", help="of the encoder, for the table")
    arguments = parser.parse_args()
    encode = encoder_of(arguments.encoder)
    names_table = [
        f"Encoder: {arguments.name or arguments.encoder.name}. Share of concepts (or single sentences) whose own "
        "name is the nearest, or among the nearest five, of all names; the first sentence, which may name its class, "
        "counts in its own column only.",
        "",
        "| vocabulary | names | mean sentence, top-1 | top-5 | single sentence, top-1 | top-5 "
        "| first | second | third | fourth | chance |",
        "|" + "---|" * 11,
    ]
    sentences_table = [
        "Share of sentences that are nearer to their class's others than to any other class's: the nearest of all "
        "sentences, and the mean of the others against the mean of each class; pairs of sentences alike "
        f"(cosine above {ALIKE}).",
        "",
        "| vocabulary | sentences | nearest sentence | nearest mean | first | second | third | fourth | alike | chance |",
        "|" + "---|" * 10,
    ]
    for vocabulary in VOCABULARIES:
        concepts = load_concepts(vocabulary, "{}").concepts
        names = encode([concept.name for concept in concepts])
        sentences = torch.stack(
            [
                encode([concept.descriptions[position] for concept in concepts])
                for position in range(POSITIONS)
            ]
        )  # (positions, concepts, features)
        title = vocabulary if vocabulary != VOCABULARIES[-1] else "all"
        names_table.append(f"| {title} | {len(names)} | {' | '.join(names_cells(names, sentences))} |")
        sentences_table.append(
            f"| {title} | {POSITIONS * len(names)} | {' | '.join(sentences_cells(sentences))} |"
        )
        print(names_table[-1], sentences_table[-1], sep="\n", flush=True)
    RESULTS.mkdir(exist_ok=True)
    lines = [*names_table, "", *sentences_table]
    (RESULTS / "concept_text.md").write_text("\n".join(lines) + "\n")


def names_cells(names: Tensor, sentences: Tensor) -> list[str]:
    """Cells of the first table.

    Args:
        names: (concepts, features), normalised.
        sentences: (positions, concepts, features), normalised.
    """

    def ranks(rows: Tensor) -> Tensor:
        scores = rows @ names.T
        return (scores > scores.diagonal()[:, None]).sum(dim=1)

    alone = torch.stack([ranks(rows) for rows in sentences])
    mean = ranks(sentences[1:].sum(dim=0))
    shares = [(rank < k).float().mean() for rank in (mean, alone[1:]) for k in (1, 5)]
    return [*map(percent, [*shares, *(alone == 0).float().mean(dim=1)]), f"{100 / len(names):.2f} %"]


def sentences_cells(sentences: Tensor) -> list[str]:
    """Cells of the second table; `sentences` is (positions, concepts, features), normalised."""
    positions, count, _ = sentences.shape
    flat = sentences.flatten(0, 1)
    cosines = flat @ flat.T
    alike = (torch.triu(cosines, diagonal=1) > ALIKE).sum()
    cosines.fill_diagonal_(-1.0)
    owner = torch.arange(count).repeat(positions)
    nearest = (owner[cosines.argmax(dim=1)] == owner).float().mean()
    total = sentences.sum(dim=0)
    shares = []
    for rows in sentences:
        scores = rows @ F.normalize(total, dim=-1).T
        own = (rows * F.normalize(total - rows, dim=-1)).sum(dim=1)
        scores.fill_diagonal_(-1.0)
        shares.append((own > scores.max(dim=1).values).float().mean())
    cells = [nearest, torch.stack(shares).mean(), *shares]
    return [*map(percent, cells), str(int(alike)), f"{100 / count:.2f} %"]


def percent(share: Tensor) -> str:
    return f"{100 * float(share):.1f} %"


def encoder_of(folder: Path) -> Callable[[Sequence[str]], Tensor]:
    """From texts to their normalised features (texts, features)."""
    if not (folder / "config_sentence_transformers.json").is_file():
        tower = load_text_tower(folder)
        return lambda texts: F.normalize(tower.encode(list(texts)), dim=-1)
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> Tensor:
        rows = []
        for start in range(0, len(texts), 64):
            batch = tokenizer(texts[start : start + 64], padding=True, truncation=True, return_tensors="pt")
            shown = batch["attention_mask"][..., None].float()
            rows.append((model(**batch).last_hidden_state * shown).sum(dim=1) / shown.sum(dim=1))
        return F.normalize(torch.cat(rows), dim=-1)

    return encode


if __name__ == "__main__":
    main()
