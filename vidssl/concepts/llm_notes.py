"""What a class name alone does not say: which data set it is from, which sense is meant, what it is confused with."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from vidssl.concepts.names import join_key
from vidssl.concepts.prompts import Concept
from vidssl.concepts.words import label_stems

_KINETICS = "people filmed in everyday video clips"
SOURCE_NOTES = {
    "k400": _KINETICS,
    "k600": _KINETICS,
    "k700": _KINETICS,
    "ucf101": "sports, music and everyday actions in video clips",
    "hmdb51": "scenes of films and amateur videos",
    "ssv2": "hands and everyday objects, mostly on a table and seen from above or by the one who acts",
    "diving48": "competitive diving from springboard and platform",
    "activitynet": "everyday and sports activities in long videos",
    "mit": "short clips of one event, also of animals and objects",
}
# Labels with a second meaning, and the one that the clips show.
SENSES = {
    ("hmdb51", "chew"): "jaws working on food or gum",
    ("hmdb51", "dive"): "jumping head first, mostly into water",
    ("hmdb51", "draw sword"): "pulling a sword out of its sheath",
    ("hmdb51", "kick ball"): "a foot striking a football",
    ("hmdb51", "pick"): "taking an object up from a surface",
    ("hmdb51", "pour"): "liquid running out of a vessel",
    ("hmdb51", "sword"): "two people fighting with swords",
    ("hmdb51", "sword exercise"): "practising with a sword alone",
    ("hmdb51", "turn"): "a person turning round while standing or walking",
    ("hmdb51", "wave"): "a raised hand moving to and fro as a greeting",
    ("ucf101", "biking"): "riding a bicycle",
    ("ucf101", "hammering"): "driving a nail with a hammer",
    ("ucf101", "shotput"): "an athlete putting the heavy metal ball",
}


def context_of(concept: Concept) -> str:
    """The note on a concept, ``none`` when nothing is known of its data sets."""
    key = join_key(concept.name)
    senses = [SENSES[source, key] for source in concept.sources if (source, key) in SENSES]
    notes = [SOURCE_NOTES[source] for source in concept.sources if source in SOURCE_NOTES]
    return "; ".join(dict.fromkeys([*senses, *notes[:1]])) or "none"


def similar_names(names: Sequence[str], limit: int = 3) -> list[tuple[str, ...]]:
    """For each name up to `limit` others that share words with it, those with the rarest common words first."""
    by_name = [label_stems(name) for name in names]
    holders: dict[str, list[int]] = defaultdict(list)
    for index, found in enumerate(by_name):
        for stem in found:
            holders[stem].append(index)
    similar = []
    for index, found in enumerate(by_name):
        scores: Counter[int] = Counter()
        for stem in sorted(found):
            rarity = math.log(len(names) / len(holders[stem])) + 0.01
            for other in holders[stem]:
                scores[other] += rarity  # type: ignore[assignment]  # a counter of weights
        del scores[index]
        best = sorted(scores, key=lambda other: (-round(scores[other], 9), other))[:limit]
        similar.append(tuple(names[other] for other in best))
    return similar
