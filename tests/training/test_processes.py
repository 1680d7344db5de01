"""A global batch on one process, on several, and in pieces: the same losses and weights, to the rounding of sums.

    python -m pytest -s tests/training/test_processes.py

shows how far they are apart after each of ten steps.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed_runner import run_on_processes
from tests.training.small_runs import log_of, tell_accelerate, tensors_of
from vidssl.config import load_config
from vidssl.training import pretrain

# A loss without a kernel whose width is learned, or a queue: nothing that would amplify rounding in ten steps.
RECIPE = [
    "objective={spectral: {projector: [32, 16]}}",
    "train.steps=10",
    "train.checkpoint_every=10",
    "train.lr=3e-4",
    "teacher.momentum=0.9",
]
pytestmark = pytest.mark.slow
LAST = "checkpoints/step_00000010"


def trained(recipe: str, runs: dict[str, list[str]]) -> None:
    """Several runs one after the other, on as many processes as there are."""
    tell_accelerate()
    for output, overrides in runs.items():
        pretrain(load_config(recipe, [*RECIPE, *overrides, f"output={output}"]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sprites, tiny_clip) -> Path:
    from tests.conftest import write_recipe

    place = tmp_path_factory.mktemp("processes")
    recipe = write_recipe(place, sprites, tiny_clip)
    # Pieces are another order of summation, on one process.
    runs = {f"{place}/one": [], f"{place}/pieces": ["train.accumulation=8"]}
    run_on_processes(trained, 1, str(recipe), runs, time_limit=400)
    run_on_processes(trained, 2, str(recipe), {f"{place}/2": []}, time_limit=400)
    return place


def apart(folder: Path, name: str) -> tuple[list[float], float]:
    """The differences of the losses from those of one process, step by step, and the largest of the weights at the end."""
    losses = [
        abs(a["loss"] - b["loss"]) for a, b in zip(log_of(folder / name), log_of(folder / "one"), strict=True)
    ]
    ours, reference = (tensors_of(folder / run / LAST) for run in (name, "one"))
    learned = [key for key in ours if key.startswith(("student", "encoder/model", "teacher_heads"))]
    assert len(learned) > 100
    return losses, max(float((ours[key].double() - reference[key].double()).abs().max()) for key in learned)


def assert_rounding(folder: Path, name: str) -> None:
    losses, weights = apart(folder, name)
    shown = " ".join(f"{loss:.0e}" for loss in losses)
    print(
        f"apart from one process, {name:>6}: losses {shown}, at most {max(losses):.1e}; weights {weights:.1e}"
    )
    assert len(losses) == 10
    assert max(losses) < 1e-5
    assert weights < 1e-5
    # It does learn something: ten steps move the weights by much more.
    start, end = (tensors_of(folder / "one" / place) for place in ("initial", f"{LAST}/encoder"))
    moved = max(float((start[key] - end[key]).abs().max()) for key in end)
    assert moved > 30 * weights


def test_two_processes_and_eight_pieces_compute_what_one_process_does(folder):
    for name in ("2", "pieces"):
        assert_rounding(folder, name)


def test_so_do_four_processes(folder, sprites, tiny_clip):
    recipe = folder / "recipe.yaml"
    run_on_processes(trained, 4, str(recipe), {f"{folder}/4": []}, time_limit=400)
    assert_rounding(folder, "4")


def test_what_is_left_is_the_order_of_sums(folder):
    """Were it a mistake of the processes, it would be larger than what another order on one process gives."""
    (_, two), (_, pieces) = (apart(folder, name) for name in ("2", "pieces"))
    assert 0 < two < 10 * pieces
