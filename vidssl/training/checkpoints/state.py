"""What a run has learned and how far it is: all that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from vidssl.models.student import Student
from vidssl.models.teacher import Teacher
from vidssl.objectives.composite import Composite


@dataclass(kw_only=True)
class State:
    """What a run has learned and how far it is: all that a checkpoint holds.

    Attributes:
        step: number of finished steps.
        skipped: how many of the last ones made no update.
        failed_videos: how many clips were replaced so far, on all processes.
        videos: digest of the videos.
        split: whether weights, moments and teacher are in parts, one on each process (`vidssl.training.sharding`).
    """

    student: Student
    teacher: Teacher
    objective: Composite
    optimizer: torch.optim.Optimizer
    seed: int
    total_steps: int
    step: int = 0
    skipped: int = 0
    failed_videos: int = 0
    videos: str = ""
    split: bool = False

    @property
    def averaged(self) -> Student:
        """The teacher's encoder and heads."""
        return cast(Student, self.teacher.module)

    @property
    def shared(self) -> list[str]:
        """The parameters of the student that are frozen and the teacher's own, by name."""
        pairs = zip(self.student.encoder.named_parameters(), self.averaged.encoder.parameters(), strict=True)
        return [f"encoder.{name}" for (name, own), averaged in pairs if own is averaged]


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """This process's states of torch's own generators, of the CPU and of its device, by kind of device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state().cpu()
    return states


def set_generator(kind: str, draws: Tensor) -> None:
    """That of the CPU or of this process's device; nothing on a machine without such a device."""
    if kind == "cpu":
        torch.set_rng_state(draws)
    elif (module := torch.get_device_module(kind)).is_available():
        module.set_rng_state(draws)
