"""What can be chosen of `vidssl track`, and what of it is part of the protocol that a number belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vidssl.errors import VidsslError, check_choice, check_value
from vidssl.evaluation.tracking.layouts.tables import read_lines
from vidssl.evaluation.tracking.presets import PRESETS

TASKS = ("sot", "vos", "mot", "mots", "pose")
DETECTIONS = ("truth", "given")
CROP = 520  # side of the windows in pixels in which a single object is looked for, as published


@dataclass(frozen=True)
class TrackOptions:
    """How sequences are tracked.

    Args:
        preset: of label propagation (vos, pose).
        stride: pixels per cell; None takes the encoder's, or 8 of a convolutional one.
        layer: whose features; None is the last.
        mode: "static" shows the encoder a frame alone, "window" the frames before it too.
        head: of a single object, "dcf" or "xcorr". legacy: with the slips of the reference.
        size: short side in pixels to which frames are resized before features are taken (scores are of the frames as they are);
            None leaves them. With sot, the side of the windows, 520 by default.
        max_frames: of each sequence, from its first.
        sequences: names of those to take, or a text file of them; None takes all.
        detections: "truth" (boxes or masks without identities), "given" (det/det.txt of each sequence), a file of MOTChallenge or with
            mots of MOTS, or a folder with <sequence>.txt.
        box: (x, y, w, h) to start from instead of the first true one (sot, vos).
        seed: of the random weights and of the resampling of sequences.
        device: None takes a GPU if there is one.
    """

    preset: str = "dino"
    stride: int | None = None
    layer: int | None = None
    mode: Literal["static", "window"] = "static"
    head: str = "dcf"
    legacy: bool = False
    size: int | None = None
    max_frames: int | None = None
    sequences: str | None = None
    detections: str = "truth"
    box: tuple[float, float, float, float] | None = None
    seed: int = 0
    device: str | None = None

    def check(self, task: str) -> None:
        """Find wrong choices before anything is loaded.

        Raises:
            VidsslError: naming the first.
        """
        check_choice("task", task, TASKS)
        check_value("size", self.size, self.size is None or self.size >= 8, "at least 8 pixels")
        check_value(
            "max_frames", self.max_frames, self.max_frames is None or self.max_frames >= 2, "at least 2"
        )
        if task in ("vos", "pose"):
            check_choice("preset", self.preset, PRESETS)
        if self.detections not in DETECTIONS:
            there = task in ("mot", "mots") and Path(self.detections).exists()
            check_value(
                "detections",
                self.detections,
                there,
                "truth, given, or with mot and mots a file or folder that is there",
            )
        if self.box is not None:
            check_value("box", self.box, task in ("sot", "vos"), "left out, except with sot and vos")
            fits = len(self.box) == 4 and all(abs(v) < 1e6 for v in self.box) and min(self.box[2:]) > 0
            check_value("box", ",".join(map(str, self.box)), fits, "x,y,w,h in pixels, with w and h above 0")
        if task == "sot":
            check_value(
                "mode",
                self.mode,
                self.mode == "static",
                "static with sot, which shows windows of a frame one by one",
            )

    def settings(self, task: str, *, stride: int, layer: int) -> dict[str, Any]:
        """What a score of this task depends on beside encoder and data.

        Args:
            stride, layer: those really used.
        """
        own: dict[str, Any] = {"task": task, "stride": stride, "layer": layer, "mode": self.mode}
        if task in ("vos", "pose"):
            own["preset"] = self.preset
        if task == "sot":
            own |= {"head": self.head, "legacy": self.legacy, "size": self.size or CROP}
        else:
            own["size"] = self.size
        if task in ("mot", "mots"):
            own["detections"] = self.detections
        return {**own, "max_frames": self.max_frames, "box": self.box}


def names_of(sequences: str | None) -> list[str] | None:
    """Names separated by commas, or those in a text file, one a line."""
    if sequences is None:
        return None
    single = "," not in sequences and Path(sequences).is_file()
    words = read_lines(Path(sequences)) if single else sequences.split(",")
    return [word.strip() for word in words if word.strip()]


def hand_drawn(size: tuple[int, int]) -> str:
    """How to say where to start in frames of (H, W)."""
    return f"--box x,y,w,h starts from one in its first frame of {size[1]} x {size[0]} pixels, and --plot draws it with rulers"


def box_of(text: str) -> tuple[float, float, float, float]:
    """``x,y,w,h`` -> numbers.

    Raises:
        VidsslError: for anything else.
    """
    try:
        x, y, w, h = (float(word) for word in text.split(","))
    except ValueError:
        raise VidsslError(
            f"box={text}: must be x,y,w,h in pixels of the first frame, such as 40,30,80,60"
        ) from None
    return x, y, w, h
