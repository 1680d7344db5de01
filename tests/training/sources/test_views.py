"""Where clips are mirrored, and where not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from vidssl.config import Config, validate_config
from vidssl.training.conditions import changes
from vidssl.training.sources.views import tells_left_from_right, view_specs

SHARED = Path(__file__).parents[3] / "../shared/data/labels"


def recipe(train: str, *flips: float | None) -> Config:
    views = [{"count": 1, "flip": flip} for flip in flips]
    return validate_config(
        {"output": "x", "data": {"train": train}, "views": views, "train": {"steps": 1}}, "x"
    )


@pytest.mark.parametrize(
    ("train", "classes", "sensitive"),
    [
        ("kinetics/train", ["archery", "bending metal"], False),
        ("ucf101/train", ["ApplyEyeMakeup", "HandstandPushups"], False),
        ("videos/train.csv", ["Pushing something from left to right", "archery"], True),
        ("videos/train", ["SwipingLeft"], True),
        ("videos/train", ["turning_clockwise"], True),
        ("videos/train", ["leftovers", "bright light"], False),
        ("something-something-v2/train.csv", [], True),
        ("data/20bn-something/videos", [], True),
        ("ssv2/train", [], True),
        ("vsl_words/train", ["hello"], True),
        ("videos/moving_left", [], True),
        ("WLASL/videos/train", ["book"], True),
        ("signal/train", ["signing autographs"], False),
    ],
)
def test_sets_of_directions_are_known_by_name(train: str, classes: list[str], sensitive: bool) -> None:
    assert bool(tells_left_from_right(classes, [Path(train)])) == sensitive
    views, said = view_specs(recipe(train, None, 0.25, None), classes)
    unsaid = 0.0 if sensitive else 0.5
    assert [view.flip for view in views] == [unsaid, 0.25, unsaid]
    assert len(said) == int(sensitive)


def test_who_asks_for_flips_gets_them() -> None:
    config = recipe("ssv2/train", 0.5, 1.0)
    views, said = view_specs(config, ["left"])
    assert ([view.flip for view in views], said) == ([0.5, 1.0], [])


def test_a_run_that_is_moved_to_another_name_does_not_begin_to_mirror(tmp_path: Path) -> None:
    config = recipe("ssv2/train", None, None)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (tmp_path / "environment.json").write_text(json.dumps({"flips": [0.0, 0.0]}))
    assert changes(tmp_path, recipe("moved/train", None, None), {"flips": [0.0, 0.0]}) == []
    (change,) = changes(tmp_path, recipe("moved/train", None, None), {"flips": [0.5, 0.5]})
    assert str(change) == "flips [0.0, 0.0] → [0.5, 0.5]"


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the class lists at {SHARED.name}")
def test_of_the_public_sets_only_something_something_has_directions() -> None:
    found = {
        file.stem
        for file in sorted((SHARED / "mmaction2").glob("label_map_*.txt"))
        if tells_left_from_right(file.read_text().splitlines(), [])
    }
    assert "label_map_sthv2" in found
    assert not found & {"label_map_k400", "label_map_k600", "label_map_ucf101", "label_map_hmdb51"}
