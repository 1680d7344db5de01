"""Do the descriptions carry meaning? Each concept's sentences look for their own class name among all names.

    python benchmarks/concept_text.py ENCODER_FOLDER

ENCODER_FOLDER is any encoder with a text tower that `vidssl concepts build` takes. Only the sentences that do
not name their class are used (all but the first), on their own and averaged. Written to benchmarks/results/.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

from vidssl.concepts.vocabulary import load_concepts
from vidssl.models.load import load_text_tower

RESULTS = Path(__file__).parent / "results"
VOCABULARIES = ("k400", "ucf101", "hmdb51", "k400+ucf101+hmdb51", "k700", "ssv2")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("encoder", help="folder of a text encoder")
    parser.add_argument("--name", help="of the encoder, for the table")
    arguments = parser.parse_args()
    tower = load_text_tower(arguments.encoder)
    lines = [
        f"Encoder: {arguments.name or Path(arguments.encoder).name}. Share of concepts (or single sentences) whose own "
        "name is the nearest, or among the nearest five, of all names.",
        "",
        "| vocabulary | names | mean sentence, top-1 | top-5 | single sentence, top-1 | top-5 | chance |",
        "|---|---|---|---|---|---|---|",
    ]
    for vocabulary in VOCABULARIES:
        concepts = load_concepts(vocabulary, "{}").concepts
        names = F.normalize(tower.encode([concept.name for concept in concepts]), dim=-1)
        owner = torch.tensor([i for i, concept in enumerate(concepts) for _ in concept.descriptions[1:]])
        sentences = F.normalize(
            tower.encode([text for concept in concepts for text in concept.descriptions[1:]]), dim=-1
        )
        mean = torch.zeros_like(names).index_add_(0, owner, sentences)
        cells = []
        for rows, own in ((mean, torch.arange(len(names))), (sentences, owner)):
            scores = rows @ names.T
            rank = (scores > scores[torch.arange(len(own)), own][:, None]).sum(dim=1)
            cells += [f"{100 * (rank < k).float().mean():.1f} %" for k in (1, 5)]
        lines.append(f"| {vocabulary} | {len(names)} | {' | '.join(cells)} | {100 / len(names):.2f} % |")
        print(lines[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "concept_text.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
