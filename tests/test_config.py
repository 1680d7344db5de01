from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from vidssl.concepts.vocabulary import load_concepts
from vidssl.config import find_config, load_config, validate_config
from vidssl.errors import VidsslError
from vidssl.objectives.hsic.objective import SSLHSIC
from vidssl.overrides import read_yaml
from vidssl.resources import resource_folder

RECIPE = "output: runs/x\ndata: {train: videos}\ntrain: {steps: 5}\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    return file


def test_overrides_reach_every_level(recipe):
    config = load_config(
        recipe,
        [
            "train.lr=1e-4",
            "views=[{count: 2, frames: 4}, {name: local, count: 6, teacher: false}]",
            "views.1.size=96",
            "model.pretrained=local-dir:/a b/c",
            "objective.hsic.gamma=1.5",
            "data.window_seconds=null",
        ],
    )
    assert config.train.lr == 1e-4
    assert config.views[1].size == 96
    assert config.model.pretrained == "local-dir:/a b/c"
    assert config.objective == {"hsic": {"gamma": 1.5}}
    assert config.data.window_seconds is None


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        (
            "train.btch_size=3",
            ["train.btch_size: unknown key", "did you mean 'batch_size'", "allowed: batch_size"],
        ),
        ("trian.steps=3", ["trian: unknown key", "did you mean 'train'"]),
        ("train.lr=abc", ["train.lr", "'abc'", "number"]),
        ("train.lr=-1", ["train.lr", "-1", "must be above 0"]),
        ("train.epochs=3", ["exactly one of steps and epochs"]),
        ("train.layer_decay=1.5", ["train.layer_decay", "1.5", "must be at most 1"]),
        ("train.layer_decay=0", ["train.layer_decay", "must be above 0"]),
        ("teacher={momentum: 1.0, final: 0.9}", ["teacher", "momentum 1 must not be above final 0.9"]),
        ("train.precision=fp8", ["train.precision", "'fp8'", "bf16"]),
        ("objective={}", ["at least one objective"]),
        ("views=[{count: 1}]", ["at least two views"]),
        ("views=[{frmes: 4}]", ["views.0.frmes", "did you mean 'frames'"]),
        ("views=[{seconds: 1, stride: 2}]", ["views.0", "seconds or stride"]),
        ("views=[{teacher: false}]", ["teacher: true"]),
        ("views=[{name: a, teacher: false}, {name: b}]", ["come before"]),
        ("output=3", ["output", "3", "must be a word"]),
        ("train.batch_size", ["expected key=value"]),
        ("output.x=1", ["is a value"]),
    ],
)
def test_mistakes_are_one_line_that_names_them(recipe, override, parts):
    with pytest.raises(VidsslError) as error:
        load_config(recipe, [override])
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_misspelt_key_is_named_as_itself_and_all_mistakes_at_once(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("output: x\ndata: {trian: videos}\ntrain: {steps: 1}\n")
    with pytest.raises(VidsslError) as error:
        load_config(file)
    [line] = str(error.value).splitlines()
    assert line.startswith(
        f"{file}: data.trian: unknown key; did you mean 'train'? (allowed: features, train,"
    )
    file.write_text("data: {trian: videos, workers: -1}\ntrian: {steps: 1}\nviews: [{frames: 0}]\n")
    with pytest.raises(VidsslError) as error:
        load_config(file)
    lines = [line.removeprefix(f"{file}: ") for line in str(error.value).splitlines()]
    assert [line.split(":")[0] for line in lines] == [
        "data.trian",
        "trian",
        "output",
        "data.workers",
        "views.0.frames",
    ]
    assert "did you mean 'train'" in lines[1]
    assert "missing" in lines[2]


def test_missing_section_and_bad_yaml(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("output: x\ntrain: {steps: 1}\n")
    with pytest.raises(VidsslError, match="data: missing"):
        load_config(file)
    file.write_text("output: [x\n")
    with pytest.raises(VidsslError, match="not a YAML file"):
        load_config(file)
    file.write_text("!!python/object/apply:os.system ['echo hi']\n")
    with pytest.raises(VidsslError, match="not a YAML file"):
        load_config(file)
    for text, found in (("", "nothing"), ("- 1\n", "a list"), ("word\n", "'word'")):
        file.write_text(text)
        with pytest.raises(VidsslError, match=f"expected `key: value` lines, found {found}"):
            load_config(file)
    with pytest.raises(VidsslError, match="did you mean 'demo'"):
        find_config("dmo")
    with pytest.raises(VidsslError, match=r"r\.yam: no such recipe; did you mean 'r\.yaml'"):
        find_config(tmp_path / "r.yam")


def test_a_key_that_stands_twice_is_not_decided_between(tmp_path: Path) -> None:
    recipe = tmp_path / "twice.yaml"
    text = find_config("hsic_small").read_text()
    recipe.write_text(f"{text}\noutput: other\n")
    last = len(recipe.read_text().splitlines())
    with pytest.raises(VidsslError, match=rf"twice\.yaml: 'output' stands twice, in lines \d+ and {last}$"):
        load_config(recipe)
    recipe.write_text(text)
    with pytest.raises(VidsslError, match=r"override 'objective=.*': 'gamma' stands twice, in lines 1 and 1"):
        load_config(recipe, ["objective={hsic: {gamma: 1, gamma: 2}}"])
    with pytest.raises(VidsslError, match="'gamma' stands twice"):
        load_config(recipe, ["objective.hsic={gamma: 1, gamma: 2}"])
    # Anchors and merges are no repetition: what is written wins over what is merged.
    assert read_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
    }


def test_a_seed_is_one_that_torch_takes() -> None:
    assert load_config("hsic_small", ["data.train=x", f"seed={2**63 - 1}"]).seed == 2**63 - 1
    with pytest.raises(VidsslError, match=rf"seed: {2**63}: must be below 9\.22337e\+18"):
        load_config("hsic_small", ["data.train=x", f"seed={2**63}"])
    with pytest.raises(VidsslError, match=rf"seed={2**63}: must be at least 0 and less than 2.63"):
        SSLHSIC(seed=2**63)


def space_of_words(vocabulary: str = "k400", **options: object) -> NamedTuple:
    """A concept space whose vocabulary exists; its vectors say nothing."""
    counts = torch.tensor([len(concept.descriptions) for concept in load_concepts(vocabulary).concepts])
    rows = torch.nn.functional.normalize(torch.ones(len(counts), 64), dim=-1)
    sentences = rows[:, None].expand(-1, int(counts.max()), -1)
    return Space(rows, rows, "0" * 64, sentences, counts)


class Space(NamedTuple):
    category: torch.Tensor
    description: torch.Tensor
    sha256: str
    sentences: torch.Tensor
    counts: torch.Tensor


@pytest.mark.parametrize(
    "file", sorted(resource_folder("configs").glob("*.yaml")), ids=lambda file: file.stem
)
def test_every_shipped_recipe_is_valid(file, monkeypatch):
    from vidssl.objectives.composite import build_objectives

    monkeypatch.chdir(Path(__file__).parents[1])  # paths of words are relative to the checkout
    config = load_config(file, defaults={"data.train": "videos"})
    build_objectives(config.objective, 64, space_of_words)
    assert find_config(file.stem).samefile(find_config(f"configs/{file.name}"))


def test_positions_in_lists_are_checked(recipe):
    with pytest.raises(VidsslError, match="'7' is not a position in a list of 1"):
        load_config(recipe, ["views=[{frames: 4}]", "views.7.frames=1"])


def test_training_sets_are_one_path_or_several_with_weights() -> None:
    raw = {"output": "run", "train": {"steps": 1}}

    def sets(train: object) -> object:
        return validate_config({**raw, "data": {"train": train}}, "recipe").model_dump(mode="json")["data"][
            "train"
        ]

    assert sets("a") == sets(["a"]) == sets([{"path": "a"}]) == "a"
    assert sets(["a", "b"]) == [{"path": "a", "weight": None}, {"path": "b", "weight": None}]
    weighted = [{"path": "a", "weight": 2.0}, {"path": "b", "weight": 0.5}]
    assert sets(weighted) == weighted
    for wrong, said in (
        ([{"path": "a", "wieght": 1}], "data.train.0.wieght: unknown key; did you mean 'weight'?"),
        ([{"path": "a", "weight": 1}, "b"], "train: give every set a weight, or none of them"),
        ([{"path": "a", "weight": 0}], "data.train.0.weight: 0: must be above 0"),
        ([], "data.train: "),
    ):
        with pytest.raises(VidsslError) as error:
            sets(wrong)
        assert said in str(error.value)
