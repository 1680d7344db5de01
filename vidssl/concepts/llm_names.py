"""New action names from a language model: ``cooking`` -> ``peeling an apple``, ``stirring a pot``, …"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vidssl.concepts.llm_answers import find_texts
from vidssl.concepts.llm_instructions import NAMES, read_instruction
from vidssl.concepts.llm_job import provenance
from vidssl.concepts.llm_request import SAMPLING, Answer, Backend, check_sampling
from vidssl.concepts.llm_rounds import Conversation, Counts, Progress, hold_rounds
from vidssl.concepts.llm_store import AnswerStore
from vidssl.concepts.names import display_name, join_key
from vidssl.concepts.prompts import Provenance, Sampling
from vidssl.errors import VidsslError

MAX_WORDS = 4


@dataclass(frozen=True)
class NameSuggestions:
    """What a model thought of.

    Attributes:
        names: new ones, in the order they came.
        rejected: (text, reason) of the others.
        reasons: why there are fewer than asked for; empty when there are enough.
        provenance: of the names.
        counts: requests sent and answered, and answers that were in the store already.
    """

    names: tuple[str, ...]
    rejected: tuple[tuple[str, str], ...]
    reasons: tuple[str, ...]
    provenance: Provenance
    counts: Counts


def suggest_names(
    topic: str,
    backend: Backend,
    *,
    count: int = 20,
    existing: Sequence[str] = (),
    instruction: str | Path = NAMES,
    sampling: Sampling = SAMPLING,
    attempts: int = 3,
    store: str | Path | None = None,
    created: str | None = None,
    progress: Progress | None = None,
) -> NameSuggestions:
    """Ask for actions that involve a topic: -ing phrases of one to four words, none of them known already.

    Args:
        topic: such as ``"a kitchen"``.
        backend: whom to ask.
        count: how many.
        existing: names not to repeat, in any spelling; all stand in the prompt.
        instruction: id of a shipped instruction or a file.
        sampling: how answers are drawn; names need about six tokens each.
        attempts: answers taken; what was good in earlier ones stays.
        store, created, progress: as for `generate`.

    Raises:
        VidsslError: for bad arguments and what `generate` raises.
    """
    topic = " ".join(topic.split())
    if not topic or count < 1 or attempts < 1:
        raise VidsslError(
            f"topic {topic!r}, count={count}, attempts={attempts}: need words and numbers of 1 or more"
        )
    check_sampling(sampling)
    known = {join_key(name) for name in existing}
    names: list[str] = []
    rejected: list[tuple[str, str]] = []
    fields = {
        "n": str(count),
        "topic": topic,
        "existing": ", ".join(map(display_name, existing)) or "(none yet)",
    }

    def review(answer: Answer) -> list[str]:
        faults = []
        for text in find_texts(answer.text, "names", complete=answer.finish != "length"):
            name = display_name(text.rstrip("."))
            fault = name_fault(name, known)
            if fault is None and len(names) < count:
                names.append(name)
                known.add(join_key(name))
            elif fault is not None:
                rejected.append((name, fault))
                faults.append(f"{name!r} {fault}")
        missing = count - len(names)
        fields["n"] = str(missing)  # of the next request
        return [*faults[:4], f"{missing} names are still missing"] if missing else []

    chosen = read_instruction(instruction)
    talk = Conversation(topic, "names", count, chosen, fields, review)
    with AnswerStore(store) as answers:
        counts = hold_rounds(
            [talk], backend, answers, sampling=sampling, attempts=attempts, progress=progress
        )
    created = created or datetime.now(UTC).date().isoformat()
    by = provenance(backend, chosen, sampling, created)
    return NameSuggestions(tuple(names), tuple(rejected), tuple(talk.faults), by, counts)


def name_fault(name: str, known: set[str]) -> str | None:
    """What keeps a text from being a new action name, None when nothing does; `known` are `join_key`s."""
    words = join_key(name).split()
    if not words:
        return "has no words"
    if len(words) > MAX_WORDS:
        return f"has {len(words)} words, more than {MAX_WORDS}"
    if not any(word.endswith("ing") and len(word) > 4 for word in words):
        return "has no verb in -ing"
    if not all(character.isalpha() or character in " '" for character in " ".join(words)):
        return "has other characters than letters"
    return "is known already" if " ".join(words) in known else None
