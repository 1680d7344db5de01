"""Evaluation protocols of published work by name: frames, views, templates and pooling at once, each with its source.

>>> chosen = as_published("zero-shot", "open_vclip", {"frames": None, "clips": 3, "templates": None}, given={"clips"})
>>> chosen.values["frames"], chosen.record["changed"]
(8, {})

What is given as well wins, and is said. What a protocol has that is not done here is said too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vidssl.errors import check_choice


@dataclass(frozen=True)
class Published:
    """A protocol of others.

    Attributes:
        source: whose it is.
        values: of the command's options, by the names of its parameters.
        differs: what of it is not done here, or has to be given.
    """

    source: str
    values: Mapping[str, Any]
    differs: tuple[str, ...] = field(default=())


CROPPED = (
    "frames are resized to a short side of 256 and cut to 224; here the crop is as large as the short side"
)
AUGMENTED = "training clips are augmented; here both splits are seen alike, once"
MEAN_OF_TOPS = "on Kinetics the mean of top-1 and top-5 is reported too; here both are"
_WHOLE = {"seconds": 0.0, "clips": 1}
_TEXT4VIS = {"frames": 8, **_WHOLE, "crops": 3, "resize": "crop", "templates": "action", "pooling": "unit"}
REPORTED = "8, 16 or 32 frames and one to four clips are reported: --frames, --clips"

PUBLISHED: dict[str, dict[str, Published]] = {
    "zero-shot": {
        "vifi": Published(
            "X-CLIP (arXiv 2208.02816) and ViFi-CLIP (arXiv 2212.03640)",
            {"frames": 32, **_WHOLE, "crops": 1, "resize": "crop", "templates": "name", "pooling": "clip"},
            (
                CROPPED,
                "their code normalises pixels by ImageNet's mean and std; here by the encoder's own",
                "UCF101 and HMDB51 are the mean of three official splits: videos#split=test",
            ),
        ),
        "open_vclip": Published(
            "Open-VCLIP; FROSTER with sentences instead of templates",
            {
                "frames": 8, "stride": 16, "clips": 3, "crops": 1, "resize": "crop", "templates": "clip_k700", "pooling": "unit"
            },
            ("UCF101 and HMDB51 are the mean of three official splits: videos#split=test",),
        ),
        "text4vis_full": Published(
            "Text4Vis (arXiv 2207.01297) and BIKE (arXiv 2301.00182), all classes and all clips (EP2)",
            _TEXT4VIS,
            (REPORTED,),
        ),
        "text4vis_half": Published(
            "Text4Vis (arXiv 2207.01297) and BIKE (arXiv 2301.00182), ten random halves of the classes, all of their clips (EP1)",
            {**_TEXT4VIS, "halves": 10},
            (
                REPORTED,
                "the order of the class list decides the halves; that of HMDB51 is by name, another is given with --classes",
                "the deviation of the ten is theirs with n, here with n - 1",
            ),
        ),
        "clip_mid": Published(
            "CLIP (arXiv 2103.00020): the middle frame",
            {"frames": 1, **_WHOLE, "crops": 1, "resize": "crop", "templates": "clip_k700", "pooling": "unit"},
            ("UCF101 has 48 templates of its own: --templates clip_ucf101", MEAN_OF_TOPS),
        ),
        "internvideo2": Published(
            "InternVideo2 and UMT",
            {"frames": 8, **_WHOLE, "crops": 1, "resize": "squash", "size": 224, "templates": "actionclip", "pooling": "unit"},
            ("scores are averaged over templates; here their vectors are", MEAN_OF_TOPS),
        ),
        "pe": Published(
            "Perception Encoder (core)",
            {"frames": 8, **_WHOLE, "crops": 1, "resize": "squash", "templates": "clip_k700", "pooling": "clip"},
            (
                "frames i of 0 to 7 are those at i (T - 1) / 7; here the middles of eight equal parts",
                "UCF101 and HMDB51 have 48 templates: --templates clip_ucf101",
            ),
        ),
    },
    "knn": {
        "dino": Published(
            "DINO and SVT",
            {"clips": 1, "crops": 1, "resize": "crop", "k": [10, 20, 100, 200], "temperature": 0.07},
        ),
    },
    "linear-probe": {
        "svt": Published(
            "SVT",
            {"frames": 8, "clips": 1, "crops": 3, "resize": "crop", "head": "sgd"},
            (
                "the rate is .001 · batch / 256 without decay; here both are chosen on held-out training videos",
                AUGMENTED,
                "of UCF101 and HMDB51 the first official split alone is read",
            ),
        ),
    },
    "attentive-probe": {
        "vjepa_k400": Published(
            "V-JEPA (arXiv 2404.08471) on Kinetics-400",
            {
                "frames": 16, "stride": 4, "clips": 8, "crops": 3, "resize": "crop", "tokens": "patches", "blocks": 1,
                "rate": [1e-3], "decay": [0.01], "epochs": 20,
            },
            (AUGMENTED,),
        ),
        "vjepa2_ssv2": Published(
            "V-JEPA 2 on Something-Something v2",
            {"frames": 16, "clips": 2, "crops": 3, "resize": "crop", "tokens": "patches", "blocks": 4, "epochs": 20},
            ("the distance of frames is the encoder's; give --stride to one that sees whole videos, of which there is one clip", AUGMENTED, "the best of 20 heads on the test is reported: --select val gives that, with a warning"),
        ),
    },
}  # fmt: skip
INSTEAD = {"seconds": "stride", "stride": "seconds"}  # one of them says how long a clip is


class Chosen(NamedTuple):
    """Options after a protocol was applied, and what a result says of it."""

    values: dict[str, Any]
    record: dict[str, Any]


def as_published(task: str, name: str, options: Mapping[str, Any], given: Collection[str]) -> Chosen:
    """Apply a protocol to a command's options.

    Args:
        task: the command. name: of the protocol.
        options: all of the command's, by parameter. given: those that were given and win.

    Returns:
        The options, and `name`, `source`, `values`, `changed` (what was given instead) and `differs`.

    Raises:
        VidsslError: for an unknown name, naming the nearest.
    """
    known = PUBLISHED[task]
    check_choice("protocol", name, known)
    one = known[name]
    won = {key for key in one.values if key in given or INSTEAD.get(key) in given}
    values = {**options, **{key: value for key, value in one.values.items() if key not in won}}
    other = {key: options[key] for key in [*one.values, *INSTEAD] if key in given and key in options}
    changed = {key: value for key, value in other.items() if value != one.values.get(key)}
    record = {"name": name, "source": one.source, "values": dict(one.values), "changed": changed}
    return Chosen(values, {**record, "differs": list(one.differs)})


def published_lines(record: Mapping[str, Any]) -> list[str]:
    """What is said under a table."""
    lines = [f"protocol {record['name']} of {record['source']}: {_said(record['values'])}"]
    if record["changed"]:
        lines.append(f"given instead, so that it is no longer that protocol: {_said(record['changed'])}")
    return [*lines, *(f"not as published: {line}" for line in record["differs"])]


def all_lines(task: str) -> list[str]:
    """The protocols of a command, one a line."""
    return [f"{name}: {one.source}; {_said(one.values)}" for name, one in PUBLISHED[task].items()]


def _said(values: Mapping[str, Any]) -> str:
    said = {
        key: " ".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()
    }
    return ", ".join(
        f"{key.replace('_', ' ')} {'the whole video' if key == 'seconds' and value == 0 else value}"
        for key, value in said.items()
    )
