from __future__ import annotations

import json

import pytest

from tests.concepts.examples import HashTower, example
from vidssl.concepts.jobs import build, convert, stats, validate
from vidssl.concepts.prompts import dump_concepts, write_concepts
from vidssl.concepts.readers import read_concepts
from vidssl.concepts.space_files import load_space
from vidssl.errors import VidsslError


def test_validate_reports_everything(tmp_path):
    file = write_concepts(example(), tmp_path / "good.json")
    record = validate(file)
    assert (record["errors"], record["warnings"], record["concepts"], record["format"]) == (0, 0, 3, "vidssl")
    bad = example()
    bad = bad.model_copy(
        update={"concepts": (bad.concepts[0].model_copy(update={"id": "1"}), bad.concepts[0])}
    )
    record = validate(write_concepts(bad, tmp_path / "bad.json"))
    assert record["errors"] == sum(p["severity"] == "error" for p in record["problems"]) >= 3
    assert record["problems"][0]["rule"] == "id-index"
    json.dumps(record)


def test_validate_lists_all_wrong_keys(tmp_path):
    data = json.loads(dump_concepts(example())) | {"licence": "x", "name": 3}
    (tmp_path / "file.json").write_text(json.dumps(data))
    record = validate(tmp_path / "file.json")
    assert record["errors"] == 2 and {p["rule"] for p in record["problems"]} == {"schema"}


def test_validate_counts_tokens_of_the_given_encoder(tmp_path):
    file = write_concepts(example(), tmp_path / "good.json")
    assert validate(file, text_encoder=HashTower(context_length=6))["errors"] > 0
    assert validate(file, text_encoder=HashTower(context_length=40))["errors"] == 0


def test_shipped_names_can_be_validated_counted_and_copied(tmp_path):
    assert validate("ucf101")["problems"] == []
    record = stats("k400+hmdb51")
    assert record["concepts"] == 450 and record["sources"]["k400"] == 400
    assert record["words_per_description"]["max"] <= 20 and record["tokens_per_description"]["max"] <= 77
    assert record["provenance"]["prompt_id"] == "describe-v1"
    assert record["descriptions"] >= 4 * 450 and record["attributes"]["phases"] >= 450
    copied = convert("hmdb51", tmp_path / "mine.json")
    assert copied["lost"] == [] and validate(tmp_path / "mine.json")["concepts"] == 51
    json.dumps([record, copied])


def test_convert_says_what_is_lost(tmp_path):
    file = write_concepts(example(), tmp_path / "own.json")
    record = convert(file, tmp_path / "ost.json", "indexed")
    assert record["written"] == [str(tmp_path / "ost.json"), str(tmp_path / "ost_classes.csv")]
    assert "provenance" in record["lost"] and "descriptions" not in record["lost"]
    back = convert(tmp_path / "ost.json", tmp_path / "back.json", classes=tmp_path / "ost_classes.csv")
    assert back["format"] == "indexed"
    read = read_concepts(tmp_path / "back.json")
    assert [c.descriptions for c in read.concepts] == [c.descriptions for c in example().concepts]
    assert read.provenance is not None and read.provenance.note == "from ost.json"
    with pytest.raises(VidsslError, match="cannot be written"):
        convert(file, tmp_path / "x", "yaml")


def test_stats_of_names_alone(tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\n")
    record = stats(tmp_path / "names.txt")
    assert record["concepts"] == 2 and record["descriptions"] == 0 and record["words_per_description"] is None


def test_build_writes_a_space_or_fills_the_cache(tmp_path):
    tower, seen = HashTower(context_length=40), []
    file = tmp_path / "space.safetensors"
    record = build("hmdb51", tower, file, whiten="center", progress=lambda *numbers: seen.append(numbers))
    assert load_space(file, tower).sha256 == record["sha256"] and record["concepts"] == 51
    assert seen[-1][0] == seen[-1][1] and record["output"] == str(file) and record["problems"] == []
    cached = build("hmdb51", tower, whiten="center")
    assert cached["sha256"] == record["sha256"] and cached["output"] is None
    assert build("k400+ssv2", HashTower(context_length=40), templates="a video of {name}.")["concepts"] == 574
    json.dumps(record)


def test_build_with_a_tower_by_name(tmp_path, tiny_clip):
    file = write_concepts(example(), tmp_path / "own.json")
    record = build(file, tiny_clip, tmp_path / "space.safetensors", device="cpu", merge_threshold=0.99)
    assert record["dim"] == 32 and record["encoder"] == load_space(record["output"]).info.encoder
