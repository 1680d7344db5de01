from __future__ import annotations

import json

from tests.concepts.examples import example
from vidssl.concepts.prompts import dump_concepts, write_concepts
from vidssl.concepts.report import stats, validate
from vidssl.concepts.vocabulary import load_concepts


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


def test_shipped_names_can_be_validated_counted_and_copied(tmp_path):
    assert validate("ucf101")["problems"] == []
    record = stats("k400+hmdb51")
    assert record["concepts"] == 450 and record["sources"]["k400"] == 400
    assert record["words_per_description"]["max"] <= 20 and record["tokens_per_description"]["max"] <= 77
    assert record["provenance"]["prompt_id"] == "describe-v3"
    assert record["descriptions"] >= 4 * 450 and record["attributes"]["phases"] >= 450
    shared, rare = record["shared_attributes"], record["rare_attributes"]
    for kind, phrases in record["attributes"].items():
        assert 60 <= shared[kind] < shared[kind] + rare[kind] < phrases  # plurals and common heads are one
    assert record["concepts_without"]["body_parts"] == 0
    assert record["common_attributes"]["body_parts"].startswith("hands/")
    write_concepts(load_concepts("hmdb51"), tmp_path / "mine.json")
    assert validate(tmp_path / "mine.json")["concepts"] == 51
    json.dumps(record)


def test_stats_of_names_alone(tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\n")
    record = stats(tmp_path / "names.txt")
    assert record["concepts"] == 2 and record["descriptions"] == 0 and record["words_per_description"] is None
