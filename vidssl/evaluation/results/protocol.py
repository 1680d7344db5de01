"""The protocol of a result: all that makes two numbers comparable, and a hash over it.

Two numbers are comparable when the hashes of their protocols are equal: same task and arithmetic, same videos (names, labels,
content), same views and decoder, same class list, texts and settings. What is of the encoder, or only says where files lie or what
was found, is no part of it. `differences` says in what two protocols differ.

>>> result = knn("runs/first", "train", "val")
>>> result["schema"], result["protocol"]["hash"]
('knn/1', '0b7c4a5d9e1f2a3b')
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

VERSION = 1  # of the results' form: changes with a key that is renamed, removed or means something else
ARITHMETIC = 1  # of the scores: changes when the same files and settings give other numbers

_SHOWN = ("sampling", "decoder")
_DATA = ("data.digest", "data.content")
_SPLITS = ("train.digest", "train.content", "val.digest", "val.content", "classes.hash")
_SELECTION = ("seed", "select", "rate_grid", "decay_grid")
ABOUT: dict[str, tuple[str, ...]] = {
    "zero-shot": (*_SHOWN, *_DATA, "classes.hash", "texts", "templates.hash", "pooling"),
    "linear-probe": (*_SHOWN, *_SPLITS, *_SELECTION, "head", "feature", "l2_grid", "shots", "draws", "groups_kept_together"),
    "knn": (*_SHOWN, *_SPLITS, "k", "temperature"),
    "attentive-probe": (*_SHOWN, *_SPLITS, *_SELECTION, "tokens", "blocks", "epochs", "probe_batch_size"),
    "finetune": (*_SHOWN, *_SPLITS, "tuning"),
    "retrieval": (*_SHOWN, *_SPLITS, *_DATA, "kind", "feature", "captions.hash"),
    "classify": (*_SHOWN, "content", "classes.hash", "templates.hash"),
    "extract": (*_SHOWN, *_DATA, "pooling", "patches", "rows"),
    "pca": ("content", "patches", "frames", "frame_size"),
    "temporal": (*_SHOWN, *_DATA, "classes.hash", "seed", "folds", "fitted_on", "penalty"),
    "geometry": (*_SHOWN, *_DATA, "seed", "cka.videos"),
    "dynamics": (*_SHOWN, *_DATA, "seed", "forecast.context", "forecast.horizons"),
    "disentangle": (
        *_SHOWN, *_DATA, "data.scene", "data.seed", "data.rendered_side", "data.factors_digest", "clips", "bins", "seed",
        "slow_clips",
    ),
    "track": ("settings", "data.digest", "metrics", "seed"),
}  # fmt: skip


def sealed(result: Mapping[str, Any]) -> dict[str, Any]:
    """A finished result with ``schema``, ``<task>/<version>``, and ``protocol``, see `protocol_of`, before all else.

    Args:
        result: JSON-able, with its ``task``; of several splits with ``splits``, results that are sealed.
    """
    return {"schema": f"{_kind(result)}/{VERSION}", "protocol": protocol_of(result), **result}


def protocol_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """What of a result makes it comparable: a value by dotted name, and ``hash``, 16 hexadecimal digits over all of them.

    Over several splits the names begin with ``split 1``, ``split 2``, …

    Raises:
        KeyError: for a task that has no protocol.
    """
    about: dict[str, Any] = {"task": result["task"], "arithmetic": ARITHMETIC}
    if "splits" in result:
        for number, split in enumerate(result["splits"], 1):
            about |= {
                f"split {number}.{key}": value for key, value in split["protocol"].items() if key != "hash"
            }
    else:
        for key in ABOUT[_kind(result)]:
            about |= _named(key, _found(result, key.split(".")))
    about = json.loads(json.dumps(about))  # tuples are lists, as in a file that is read again
    return {**about, "hash": hash_of(about)}


def hash_of(protocol: Mapping[str, Any]) -> str:
    """16 hexadecimal digits over all that a protocol says but for its hash."""
    said = json.dumps({key: value for key, value in protocol.items() if key != "hash"}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """In what two protocols differ: both values by name, None where one has none; empty for those with equal hashes."""
    names = dict.fromkeys([*first, *second])
    pairs = {name: (first.get(name), second.get(name)) for name in names if name != "hash"}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _kind(result: Mapping[str, Any]) -> str:
    task = str(result["task"])
    return "track" if task.startswith("track-") else task


def _found(record: Any, keys: list[str]) -> Any:
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def _named(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values below a name, by dotted names; nothing for one that is not there."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _named(f"{name}.{key}", inner)
    elif value is not None:
        yield name, value
