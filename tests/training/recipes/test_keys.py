from __future__ import annotations

import pytest
import yaml

from vidssl.config import load_config
from vidssl.resources import resource_folder
from vidssl.training.recipes.keys import REQUIRED, recipe_keys, recipe_schema

RECIPES = sorted(resource_folder("configs").glob("*.yaml"))


def test_every_key_says_what_it_takes_and_means() -> None:
    keys = {key.name: key for key, _ in recipe_keys()}
    assert [name for name, key in keys.items() if not key.meaning or not key.kind] == []
    assert keys["output"].default is REQUIRED
    assert keys["evaluate.k"].default == 20
    assert keys["train.batch_size"][1:3] == ("whole number ≥ 1 or auto", 64)
    assert keys["objective.hsic.gamma"].kind == "number or null"
    assert keys["objective.hsic.kappa"].default == 0.8
    assert keys["model.options.token_drop"].default == 0.0


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_has_no_key_that_is_not_shown(file) -> None:
    values = {
        key.name: value for key, value in recipe_keys(load_config(file, defaults={"data.train": "videos"}))
    }

    def leaves(node, prefix=""):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for name, value in pairs:
            inner = isinstance(value, dict) or (
                isinstance(value, list) and value and isinstance(value[0], dict)
            )
            yield from leaves(value, f"{prefix}{name}.") if inner else [(f"{prefix}{name}", value)]

    for name, value in leaves(yaml.safe_load(file.read_text())):
        if name.endswith((".objective", ".spaces")) or ".spaces." in name:
            continue
        shown = values[name]
        shown = list(shown) if isinstance(shown, tuple) else shown
        assert shown == pytest.approx(float(value)) if isinstance(shown, float) else shown == value, name


def test_editors_accept_the_recipes_that_ship_and_mark_a_misspelt_key() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(recipe_schema())
    validator.check_schema(validator.schema)
    for file in RECIPES:
        raw = yaml.load(file.read_text(), Loader=yaml.SafeLoader)
        raw["data"].setdefault("train", "videos")
        assert [error.message for error in validator.iter_errors(raw)] == [], file
    raw["objective"] = {"hsic": {"gama": 3}}
    assert any("gama" in error.message for error in validator.iter_errors(raw))
