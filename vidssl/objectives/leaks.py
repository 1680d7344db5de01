"""Whether what an objective predicts was already to be seen in what it predicts from."""

from __future__ import annotations

import math

from vidssl.models.student import Student
from vidssl.objectives.composite import Composite


def leaks(student: Student, objective: Composite) -> list[str]:
    """What to say of objectives that predict frames whose features the encoder lets earlier ones see."""
    encoder, said = student.encoder, []
    for name, part in objective.items():
        if not part.predicts_frames or encoder.sees != "clip":
            continue
        chunk, pooled = encoder.chunk_frames, getattr(student.heads[name], "pool_frames", 1)
        if chunk is None:
            said.append(
                f"objective.{name}: the encoder lets every frame see the whole clip, so that later frames are known "
                "before they are predicted; set model.options.causal=true, or encode disjoint chunks with "
                f"model.options.chunk_frames=N and objective.{name}.pool_frames=N"
            )
            continue
        latents = math.ceil(chunk / encoder.time_stride)  # of a chunk
        if pooled % latents:
            said.append(
                f"objective.{name}: the frames of a chunk see each other; set objective.{name}.pool_frames={latents}, "
                "so that whole chunks are predicted"
            )
    return said
