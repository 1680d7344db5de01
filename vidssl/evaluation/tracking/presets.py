"""The published protocols of label propagation, as settings of one engine. Their scores are not comparable with each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from vidssl.errors import NAMED, check_choice, check_value

WINDOWS = ("square", "disc")
FIRST_FRAMES = ("once", "window", "padded")


@dataclass(frozen=True)
class Preset:
    """How labels are carried along a video.

    Attributes:
        temperature: by which cosines are divided before the softmax over the keys that count.
        top_k: how many keys count.
        radius: of the window, in cells; 0 is everywhere.
        window: "square" (both offsets at most `radius`) or "disc" (distance below `radius`).
        restrict_first: whether the window holds for frame 0 too.
        context: how many frames before the query give keys, besides frame 0.
        ties: whether keys as similar as the top_k-th count too.
        first_frame: how often frame 0 stands among the keys of frame t: "once"; "window", once more while t <= context;
            "padded", once more for every frame t - context … t - 1 that is not after frame 0. Those further times it
            is a frame of the context, for which the window holds.
    """

    temperature: float
    top_k: int
    radius: float
    window: str
    restrict_first: bool
    context: int
    ties: bool
    first_frame: str

    def context_of(self, frame: int) -> list[int]:
        """The frames besides frame 0 that give keys to `frame`; 0 in it is frame 0 once more."""
        before = range(frame - self.context, frame)
        if self.first_frame == "padded":
            return [max(0, index) for index in before]
        return [index for index in before if index >= (self.first_frame == "once")]


# The sources of the protocols are DINO (Caron et al. 2021), CRW (Jabri et al. 2020), UniTrack (Wang et al. 2021), VFS
# (Xu & Wang 2021, its ResNet-18), CropMAE (Eymaël et al. 2024; SiamMAE's protocol) and RSP (Jang et al. 2024).
PRESETS = {
    "dino": Preset(0.1, 5, 12, "square", True, 7, True, "once"),
    "crw": Preset(0.05, 10, 12, "disc", False, 20, False, "padded"),
    "unitrack": Preset(0.05, 10, 12, "disc", False, 5, False, "padded"),
    "vfs": Preset(0.07, 10, 12, "disc", True, 20, False, "window"),
    "cropmae": Preset(0.7, 7, 20, "disc", False, 20, False, "padded"),
    "rsp": Preset(0.1, 7, 30, "square", True, 30, False, "once"),
}


def preset_of(name: str, **changes: Any) -> Preset:
    """A preset with some of its fields changed.

    Raises:
        VidsslError: for an unknown preset or field, or a value that a field cannot have.
    """
    check_choice("preset", name, PRESETS)
    allowed = [field.name for field in fields(Preset)]
    for field in changes:
        check_choice("propagation setting", field, allowed, NAMED)
    preset = replace(PRESETS[name], **changes)
    check_choice("window", preset.window, WINDOWS)
    check_choice("first_frame", preset.first_frame, FIRST_FRAMES)
    for field, least in (("top_k", 1), ("context", 0)):
        value = getattr(preset, field)
        check_value(field, value, _whole(value) and value >= least, f"a whole number of at least {least}")
    check_value("temperature", preset.temperature, 0 < preset.temperature < math.inf, "a number above 0")
    check_value(
        "radius", preset.radius, 0 <= preset.radius < math.inf, "0 (everywhere) or a number of cells above 0"
    )
    return preset


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
