"""A finished run back in memory: its recipe, the encoder with its heads, the objectives with all they have learned.

`vidssl.load` gives the encoder alone, which is what most evaluations want; this is for those that look at a head or at
what an objective learned beside the encoder, such as a model of motion.

    >>> restored = load_run("runs/ldm_small")
    >>> rows = restored.student([clips]).heads["ldm"][0].frames          # (B, T, m)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vidssl.concepts.build import space_builder
from vidssl.config import Config, load_config
from vidssl.errors import VidsslError, check_choice
from vidssl.files import newest_checkpoint, read_json, require_whole
from vidssl.models.export import read_encoder
from vidssl.models.stored import own_tensors
from vidssl.models.student import Student
from vidssl.models.weights import load_strict, read_state
from vidssl.objectives.composite import Composite, build_objectives

Weights = Literal["teacher", "student", "initial"]
# In a run folder: the resolved recipe, and the encoder as it was before the first step.
CONFIG, INITIAL = "config.yaml", "initial"
# In a checkpoint: the teacher's encoder, what else was learned, and where the run stands.
ENCODER, STUDENT, TEACHER_HEADS = "encoder", "student.safetensors", "teacher_heads.safetensors"
OBJECTIVE, STATE = "objective.safetensors", "state.json"
IN_ENCODER = "in_encoder"  # of the state: weights of the student that stand in ENCODER alone, as they are the teacher's too


class Restored(NamedTuple):
    """A run, on the CPU, in evaluation mode, without gradients.

    Attributes:
        config: the resolved recipe.
        student: encoder and heads, with the weights that were asked for.
        objective: the objectives with their own parameters, queues and running centres.
    """

    config: Config
    student: Student
    objective: Composite


def load_run(
    run: str | Path, weights: Weights = "teacher", objectives: Sequence[str] | None = None
) -> Restored:
    """Rebuild what a run trained, from its folder alone.

    Args:
        run: the run folder, for its last checkpoint, or one of its checkpoint folders.
        weights: those of the "teacher" or of the "student"; "initial": the encoder as it was before the first step, with
            fresh heads and objectives drawn from the recipe's seed, for what training was worth.
        objectives: only these, by the names they have in the recipe; None: all of them.

    Raises:
        VidsslError: for a folder that is no run, a run without a checkpoint, a damaged one, an unknown objective, or
            weights that do not fit the recipe.
    """
    folder, checkpoint = find_run(run)
    config = load_config(folder / CONFIG)
    names = list(config.objective) if objectives is None else list(objectives)
    for name in names:
        check_choice(
            f"{folder}: no objective", name, config.objective, "{name} {value!r}{guess} (trained: {allowed})"
        )
    encoder = read_encoder(folder / INITIAL if weights == "initial" else checkpoint / ENCODER)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        spec = {name: config.objective[name] for name in names}
        objective, heads = build_objectives(spec, encoder.embed_dim, space_builder(encoder.text))
    student = Student(encoder, heads)
    if weights != "initial":
        _load(student, objective, checkpoint, weights, names)
    return Restored(config, student.eval().requires_grad_(False), objective.eval().requires_grad_(False))


def find_run(path: str | Path) -> tuple[Path, Path]:
    """The run folder and the checkpoint that `path`, one or the other, stands for; for a run its newest.

    Raises:
        VidsslError: when it is neither, or the checkpoint is damaged.
    """
    folder, checkpoint = _locate(path)
    require_whole(checkpoint)
    return folder, checkpoint


def _locate(path: str | Path) -> tuple[Path, Path]:
    given = Path(path).expanduser()
    if not given.is_dir():
        raise VidsslError(f"{path}: {'not a folder' if given.exists() else 'no such folder'}; {_EXPECTED}")
    if (given / CONFIG).is_file():
        checkpoint = newest_checkpoint(given)
        if checkpoint is None:
            raise VidsslError(f"{path}: the run was stopped before its first checkpoint")
        return given, checkpoint
    inside = given.resolve()
    if (inside / STATE).is_file() and (inside.parents[1] / CONFIG).is_file():
        return inside.parents[1], given
    hint = "; an exported encoder has lost its heads" if (given / "config.json").is_file() else ""
    raise VidsslError(f"{path}: is no run{hint}; {_EXPECTED}")


def find_initial(path: Path) -> Path | None:
    """``initial/`` of the run that `path` (run folder, checkpoint or its encoder) belongs to; None for a mere name."""
    if not path.exists():
        return None
    resolved = path.resolve()
    for folder in (resolved, *list(resolved.parents)[:3]):
        if (folder / INITIAL / "config.json").is_file() and (folder / CONFIG).is_file():
            return folder / INITIAL
    return None


_EXPECTED = f"expected a run folder ({CONFIG} and checkpoints/) or one of its checkpoints"


def objective_name(run: str | Path, kind: str, name: str | None = None) -> str:
    """The name that the one objective of `kind` has in the recipe of a run.

    Args:
        run: the run folder or one of its checkpoints.
        kind: such as "ldm".
        name: which one, where there are several.

    Raises:
        VidsslError: when there is none, the named one is not of this kind, or there are several and none was named.
    """
    config = load_config(_locate(run)[0] / CONFIG)
    found = [key for key, options in config.objective.items() if options.get("objective", key) == kind]
    trained = ", ".join(config.objective)
    if not found:
        raise VidsslError(f"{run}: no {kind} objective; the run trained {trained}")
    if name is None and len(found) > 1:
        raise VidsslError(f"{run}: several {kind} objectives, choose one by name: {', '.join(found)}")
    chosen = name or found[0]
    check_choice(f"{run}: no {kind} objective", chosen, found, "{name} {value!r}{guess} (there is {allowed})")
    return chosen


def _load(
    student: Student, objective: Composite, checkpoint: Path, weights: Weights, names: Sequence[str]
) -> None:
    """Fill heads and objectives (and, for the student, the encoder) from the files of a checkpoint."""

    if weights == "student":
        load_strict(student, _chosen(read_student(checkpoint), names, "heads."), f"{checkpoint}: student")
    else:
        load_strict(
            student.heads,
            _chosen(read_state(checkpoint / TEACHER_HEADS), names),
            f"{checkpoint}: heads of the teacher",
        )
    if objective.state_dict():
        load_strict(
            objective,
            _chosen(read_state(checkpoint / OBJECTIVE), names, "objectives."),
            f"{checkpoint}: objective",
        )


def _chosen(tensors: dict[str, Tensor], names: Sequence[str], prefix: str = "") -> dict[str, Tensor]:
    """Without what belongs to other objectives than those of the names, which follow the prefix."""
    own = tuple(f"{prefix}{name}." for name in names)
    return {key: x for key, x in tensors.items() if key.startswith(own) or not key.startswith(prefix)}


def read_student(checkpoint: Path) -> dict[str, Tensor]:
    """All weights of the student of a checkpoint, with those that it has in common with the teacher."""
    tensors, shared = read_state(checkpoint / STUDENT), read_json(checkpoint / STATE).get(IN_ENCODER, ())
    if shared:
        encoder = own_tensors(checkpoint / ENCODER)
        tensors |= {name: encoder[name.removeprefix("encoder.")] for name in shared}
    return tensors
