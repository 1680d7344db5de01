from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

import vidssl
from vidssl.concepts.datasets import class_names
from vidssl.errors import VidsslError, counted
from vidssl.evaluation import EvalOptions, zero_shot
from vidssl.evaluation.classes import class_list, concept_classes
from vidssl.evaluation.report import show_result
from vidssl.evaluation.texts.classifier import class_prompts, cut_texts, text_classifier
from vidssl.evaluation.texts.setting import name_setting, training_vocabulary
from vidssl.evaluation.zero_shot import rated_with_debiased, zero_shot_scores
from vidssl.models.export import save_encoder

WORDS = {
    "moving right": ["A shape slides towards the right edge.", "The left side empties."],
    "moving left": ["A shape slides towards the left edge."],
    "growing": ["It fills more of the frame every moment.", "Its outline widens.", "Less ground is left."],
}
FAST = EvalOptions(clips=1, frames=4, seconds=1.0, size=32, workers=0)


@pytest.fixture(scope="module")
def encoder(tiny_clip):
    return vidssl.create_model(f"local-dir:{tiny_clip}").eval()


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("words") / "motions.json"
    file.write_text(json.dumps(WORDS))
    return file


@pytest.fixture
def run_folder(tmp_path, encoder):
    """Makes what evaluation looks at in a run: its recipe, its start, its encoder."""

    def make(objective: dict) -> Path:
        run = tmp_path / "run"
        recipe = {"output": "run", "data": {"train": "x"}, "objective": objective, "train": {"steps": 1}}
        run.mkdir()
        (run / "config.yaml").write_text(yaml.safe_dump(recipe))
        save_encoder(encoder, run / "initial")
        save_encoder(encoder, run / "encoder")
        return run

    return make


def by_hand(encoder, groups: list[list[str]]) -> torch.Tensor:
    rows = []
    for texts in groups:
        unit = [F.normalize(encoder.text.encode([text])[0].double(), dim=0) for text in texts]
        rows.append(F.normalize(torch.stack(unit).mean(0), dim=0))
    return torch.stack(rows)


def test_classifier_from_names_descriptions_and_both(encoder, words):
    classes = concept_classes(str(words))
    templates = ("a video of {}.", "{} again")
    names = by_hand(encoder, [[f"a video of {name}.", f"{name} again"] for name in WORDS])
    sentences = by_hand(encoder, list(WORDS.values()))
    expected = {
        "category": names,
        "description": sentences,
        "both": F.normalize(names + sentences, dim=-1),
    }
    for texts, rows in expected.items():
        made = text_classifier(encoder, classes, templates, texts)
        torch.testing.assert_close(made.double(), rows, atol=1e-6, rtol=0)


def test_what_the_classifier_refuses(encoder, words):
    classes = concept_classes(str(words))
    with pytest.raises(VidsslError, match="did you mean 'description'"):
        text_classifier(encoder, classes, ("{}",), "descriptions")
    with pytest.raises(VidsslError, match="my list has no descriptions"):
        text_classifier(encoder, class_list(["run"], "my list"), ("{}",), "both")


def test_debiasing_takes_away_what_all_videos_share():
    """A common shift of all features makes one class a hub; the mean score over the videos is exactly that shift's."""
    generator = torch.Generator().manual_seed(0)
    classifier = F.normalize(torch.randn(6, 16, generator=generator), dim=-1)
    labels = torch.arange(120) % 6
    rows = classifier[labels] + 0.05 * torch.randn(120, 16, generator=generator) + 1.5 * classifier[0]
    ok = torch.ones(120, dtype=torch.bool)
    rated = rated_with_debiased("x", rows, classifier, labels, ok, "inductive")
    scores = {name: row.score for name, row in rated.items()}
    assert rated["x"].correct.sum() == scores["x"]["correct"]
    assert scores["x"]["top1"] < 0.5
    assert scores["x, debiased (transductive)"]["top1"] > 0.95
    assert scores["x"]["setting"] == {"videos": "inductive", "names": "inductive"}
    assert scores["x, debiased (transductive)"]["setting"]["videos"] == "transductive"


def test_videos_that_could_not_be_read_take_no_part_in_the_mean():
    classifier, rows = torch.eye(3), torch.tensor([[1.0, 0, 0], [0, 1, 0], [float("nan")] * 3])
    ok = torch.tensor([True, True, False])
    scores = zero_shot_scores(rows, classifier, debias=True, ok=ok)
    torch.testing.assert_close(scores[:2], torch.tensor([[0.5, -0.5, 0], [-0.5, 0.5, 0]]))
    assert not bool(scores[2].isfinite().any())  # and is therefore wrong, see `correct_rows`
    torch.testing.assert_close(zero_shot_scores(rows, classifier, debias=True)[:2], scores[:2])


@pytest.mark.parametrize(
    ("objective", "vocabulary"),
    [
        ({"hsic": {}}, None),
        ({"concept": {}}, "k400"),
        ({"hsic": {}, "concept": {"vocabulary": "k400+ucf101+hmdb51"}}, "k400+ucf101+hmdb51"),
        ({"a": {"objective": "concept"}, "b": {"objective": "concept", "vocabulary": "ssv2"}}, "k400+ssv2"),
    ],
)
def test_the_vocabulary_of_a_run_is_read_from_its_recipe(run_folder, objective, vocabulary):
    assert training_vocabulary(run_folder(objective)) == vocabulary


@pytest.mark.parametrize(
    ("vocabulary", "classes", "known", "setting"),
    [
        ("k400", ["YoYo", "TaiChi", "Mixing"], 1, "partly transductive"),  # tai chi is a class of Kinetics
        ("k400", ["YoYo", "Mixing"], 0, "inductive"),
        ("k400+ucf101", ["YoYo", "Mixing", "tai_chi"], 3, "transductive"),
    ],
)
def test_names_known_in_training_are_counted_by_name(run_folder, vocabulary, classes, known, setting):
    run = run_folder({"concept": {"vocabulary": vocabulary}})
    found = name_setting(run, class_list(classes, "list"))
    assert found == {"vocabulary": vocabulary, "known": known, "classes": len(classes), "setting": setting}


def test_no_vocabulary_is_inductive_and_a_lost_one_unknown(run_folder, tmp_path):
    classes = class_list(["YoYo"], "list")
    run = run_folder({"hsic": {}})
    assert name_setting(run, classes)["setting"] == "inductive"
    lost = {
        "output": "x",
        "data": {"train": "x"},
        "train": {"steps": 1},
        "objective": {"concept": {"vocabulary": "gone.json"}},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(lost))
    assert name_setting(run, classes) | {"reason": ""} == {
        "vocabulary": "gone.json", "known": None, "classes": 1, "setting": "unknown", "reason": ""
    }  # fmt: skip
    assert name_setting(None, classes)["setting"] == "unknown"


def test_a_result_says_all_of_it(run_folder, words, sprites, capsys):
    run = run_folder({"concept": {"vocabulary": str(words)}})
    result = zero_shot(run / "encoder", sprites / "val", classes=str(words), texts="both", options=FAST)
    rows = [name for name in result["scores"] if "trained" in name]
    assert rows == [
        "untrained",
        "untrained, debiased (transductive)",
        "trained",
        "trained, debiased (transductive)",
    ]
    for first, second in zip(rows[:2], rows[2:], strict=True):  # the encoder is the untrained one
        assert result["scores"][first]["correct"] == result["scores"][second]["correct"]
        assert result["scores"][first]["setting"]["names"] == "inductive"
        assert result["scores"][second]["setting"]["names"] == "transductive"
    assert result["names"]["known"] == 3 and result["texts"] == "both"
    json.dumps(result)
    show_result("zero-shot", result)
    out = capsys.readouterr().out
    assert "3 of 3 are in the vocabulary of training" in out
    assert "transductive" in out


def test_one_video_without_finite_features_is_one_wrong_video():
    """Its nan would spread through the mean that debiasing subtracts."""
    rows = torch.eye(3)[[0, 1, 2, 0]]
    rows[3] = torch.nan
    labels, ok = torch.tensor([0, 1, 2, 0]), torch.ones(4, dtype=torch.bool)
    rated = rated_with_debiased("x", rows, torch.eye(3), labels, ok, "inductive")
    for row in rated.values():
        assert row.correct.tolist() == [True, True, True, False]
        assert row.score["not_finite"] == 1


def test_texts_that_are_longer_than_the_context_are_named(encoder):
    long, snowmen = " ".join(["word"] * 90), "☃ " * 30  # few letters, many tokens
    classes = class_list(["run", long, snowmen], "list")
    found = cut_texts(encoder, class_prompts(classes, ("{}", "see {}")))
    assert found["context_length"] == 77
    assert set(found["texts"]) == {text for text in found["texts"] if encoder.text.num_tokens(text) > 77}
    assert {long, f"see {long}"} <= set(found["texts"]) and "run" not in found["texts"]


def test_classes_that_are_not_listed_count_as_wrong_and_are_named(run_folder, sprites, tmp_path, capsys):
    """As in probes and nearest neighbours."""
    file = tmp_path / "list.txt"
    file.write_text("moving left\ngrowing\njumping\n")
    run = run_folder({"hsic": {}})
    result = zero_shot(run / "encoder", sprites / "val", classes=str(file), options=FAST)
    assert result["classes"]["unknown"] == {"moving_right": 3}
    assert result["classes"]["unused"] == ["jumping"]
    assert result["scores"]["trained"]["total"] == 9
    assert result["scores"]["chance"]["top1"] == pytest.approx(2 / 9)
    assert result["scores"]["majority class"]["top1"] == pytest.approx(1 / 3)
    assert result["comparisons"]["trained"]["p"] == 1  # the encoder is the untrained one
    show_result("zero-shot", result)
    out = capsys.readouterr().out
    assert (
        "3 videos of 1 class that are not among the 3 to choose from, counted as wrong: moving_right (3)"
        in out
    )
    assert "1 of 3 classes has no video in the test: jumping" in out


def test_one_class_is_said_to_be_no_test(run_folder, sprites, tmp_path, capsys):
    shutil.copytree(sprites / "val" / "growing", tmp_path / "data" / "growing")
    result = zero_shot(run_folder({"hsic": {}}) / "encoder", tmp_path / "data", options=FAST)
    assert result["scores"]["trained"]["top1"] == 1 == result["scores"]["chance"]["top1"]
    show_result("zero-shot", result)
    assert "there is one class: every answer is right, whatever the encoder" in capsys.readouterr().out


def test_descriptions_need_a_vocabulary(run_folder, sprites):
    with pytest.raises(VidsslError, match=r"classes\.csv has no descriptions"):
        zero_shot(run_folder({"hsic": {}}) / "encoder", sprites / "val", texts="description", options=FAST)


def test_a_shifted_list_of_labels_is_named(run_folder, sprites, monkeypatch, tmp_path):
    module = import_module("vidssl.evaluation.zero_shot")
    run = run_folder({"hsic": {}}) / "encoder"
    extract = module.extract_features

    def planted(offset):
        def found(subject, index, **given):
            kept = extract(subject, index, **given)
            rows = torch.eye(3)[(torch.from_numpy(index.label_ids) + offset) % 3]
            features = {name: rows.repeat(1, 1) for name in kept.features}
            return replace(
                kept, features=features, ok=dict.fromkeys(features, torch.ones(len(rows), dtype=torch.bool))
            )

        return found

    monkeypatch.setattr(module, "text_classifier", lambda *_: torch.eye(3))
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(sorted(folder.name for folder in (sprites / "val").iterdir())))
    lines = {}
    for offset in (0, 1, 2):
        monkeypatch.setattr(module, "extract_features", planted(offset))
        result = zero_shot(run, sprites / "val", classes=str(listed), options=FAST)
        lines[offset] = " ".join(result["notes"])
        assert result["scores"]["trained"]["top1"] == (offset == 0)
        assert result["answers"]["answered"]["trained"] == [
            (label + offset) % 3 for label in result["answers"]["truth"]
        ]
    assert "shifted" not in lines[0] and "chance" not in lines[0]
    assert "trained: the labels look shifted by 1 in the list of 3 classes: 9 answers fit" in lines[1]
    assert "shifted by 2" in lines[2]


def test_the_three_lists_of_kinetics_600_see_the_videos_of_their_own_classes(
    run_folder, encoder, sprites, tmp_path, monkeypatch
):
    videos = iter(sorted((sprites / "train").rglob("*.mp4")))
    names = ("acting in play", "adjusting glasses", "alligator wrestling", "arguing")
    where = {
        name: [number for number in (1, 2, 3) if name in class_names(f"k600-zero-shot-{number}")]
        for name in names
    }
    assert sorted({tuple(lists) for lists in where.values()}) != [(1, 2, 3)]
    for name in (*where, "abseiling"):
        (tmp_path / "k600" / name).mkdir(parents=True)
        shutil.copy(next(videos), tmp_path / "k600" / name / "a.mp4")
    run, data = run_folder({"hsic": {}}) / "encoder", tmp_path / "k600"
    module = import_module("vidssl.evaluation.zero_shot")
    monkeypatch.setattr(module, "text_classifier", lambda *_: torch.ones(160, encoder.embed_dim))
    result = zero_shot(run, data, classes="k600-zero-shot", options=FAST)
    for number, one in enumerate(result["splits"], 1):
        assert len(one["classes"]["names"]) == 160 and one["classes"]["unknown"] == {}
        own = sorted(name for name, lists in where.items() if number in lists)
        assert [path.split("/")[0] for path in one["answers"]["videos"]] == own
        left_out = f"left out, as this protocol has it: {counted(5 - len(own), 'video')} of {counted(5 - len(own), 'other class')}"
        assert any(left_out in line for line in one["notes"])
        assert one["scores"]["chance"]["top1"] == pytest.approx(1 / 160)
    assert len(result["scores"]["trained"]["top1_splits"]) == 3
    with pytest.raises(VidsslError, match=r"none of its classes .* are in concepts k600-zero-shot-1"):
        zero_shot(tmp_path / "run" / "encoder", sprites / "val", classes="k600-zero-shot-1", options=FAST)
