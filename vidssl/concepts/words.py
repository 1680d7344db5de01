"""Words and stems of English sentences, just enough to see whether a sentence names its own label."""

from __future__ import annotations

import re

from vidssl.concepts.names import display_name

# Words of a label that say nothing of the action.
FUNCTION_WORDS = {
    "a", "an", "the", "and", "or", "not", "so", "but", "it", "its", "it's", "that", "is", "doesn't",
    "can't", "your", "of", "on", "in", "at", "to", "with", "for", "from", "by", "into", "onto", "over",
    "under", "off", "up", "down", "out", "person", "person's", "people", "something", "someone", "somebody",
    "human", "sport", "game", "art", "exercise",
}  # fmt: skip
_SUFFIXES = ("ing", "ers", "ies", "er", "es", "ed", "s")


def words(text: str) -> list[str]:
    """Lower-case words and numbers; CamelCase, dashes and underscores divide, apostrophes do not."""
    return re.findall(r"[a-z0-9']+", display_name(text))


def stem(word: str) -> str:
    """A word without its inflection: ``juggling``, ``juggles`` and ``juggle`` have the same.

    Crude on purpose: it may take two words for one (``pole`` and ``poling``), which costs a rewording, but it sees
    ``cutting`` in ``cut`` and ``carries`` in ``carry``.
    """
    word = word.replace("'s", "")
    ending = next((end for end in _SUFFIXES if word.endswith(end) and len(word) - len(end) >= 3), "")
    word = word.removesuffix(ending)
    if len(word) > 3:
        word = word.rstrip("eiy")
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def stems(text: str) -> set[str]:
    """Stems of all words of a text."""
    return {stem(word) for word in words(text)}


def label_stems(name: str) -> set[str]:
    """Stems of the content words of a label; what stands in brackets is a remark and does not count."""
    outside = re.sub(r"\(.*?\)", " ", name)
    content = {stem(word) for word in words(outside) if word not in FUNCTION_WORDS}
    return content or stems(outside) or stems(name)


def names_label(sentence: str, name: str) -> bool:
    """Whether all content words of the label occur in the sentence, in any inflection."""
    label = label_stems(name)
    return bool(label) and label <= stems(sentence)


def word_runs(text: str, length: int = 5) -> set[str]:
    """All runs of so many words."""
    found = words(text)
    return {" ".join(found[start : start + length]) for start in range(len(found) - length + 1)}
