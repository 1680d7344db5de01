"""`vidssl concepts` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import Run, one_line
from tests.concepts.generate.chat_server import good_sentences


def test_shipped_words_are_valid_and_counted(vidssl: Run, tmp_path: Path) -> None:
    code, out, _ = vidssl("concepts", "validate", "ucf101", "--output", tmp_path / "report.json")
    assert (code, "101 concepts, 0 errors" in out) == (0, True)
    assert json.loads((tmp_path / "report.json").read_text())["concepts"] == 101
    code, out, _ = vidssl("concepts", "stats", "k400+ucf101+hmdb51")
    assert code == 0
    assert "530" in out


def test_broken_rules_are_listed_and_fail(vidssl: Run, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    vidssl("concepts", "convert", "hmdb51", file)
    words = json.loads(file.read_text())
    words["concepts"][0]["descriptions"] = ["Two are too few.", "Two are too few."]
    file.write_text(json.dumps(words))
    code, out, _ = vidssl("concepts", "validate", file)
    assert code == 1
    assert f"error: {words['concepts'][0]['id']}" in out
    assert " 0 errors" not in out


def test_converting_there_and_back_keeps_the_sentences(vidssl: Run, tmp_path: Path) -> None:
    code, out, _ = vidssl("concepts", "convert", "hmdb51", tmp_path / "cupl.json", "--to", "cupl")
    assert code == 0
    assert "51 concepts as cupl" in out
    table = json.loads((tmp_path / "cupl.json").read_text())
    assert len(table) == 51
    vidssl("concepts", "convert", tmp_path / "cupl.json", tmp_path / "back.json")
    back = json.loads((tmp_path / "back.json").read_text())
    assert {c["name"]: c["descriptions"] for c in back["concepts"]} == table


def test_building_a_space_reports_it_and_is_cached(vidssl: Run, tiny_clip: Path) -> None:
    encoder = f"local-dir:{tiny_clip}"
    code, out, err = vidssl("concepts", "build", "hmdb51", encoder)
    assert code == 0
    assert "51 concepts x 32" in out
    assert "encoding" in err
    again = vidssl("concepts", "build", "hmdb51", encoder)
    assert again[1] == out
    assert "encoding" not in again[2]  # from the cache


def test_attributes_are_encoded_and_counted_when_asked_for(vidssl: Run, tiny_clip: Path) -> None:
    build = ("concepts", "build", "hmdb51", f"local-dir:{tiny_clip}")
    code, out, err = vidssl(*build, "--attributes", "scene", "--attributes", "body_parts")
    assert code == 0
    assert "attributes: 33 scene" in out and "encoding" in err
    assert "did you mean 'scene'" in one_line(*vidssl(*build, "--attributes", "scenes"))
    code, out, _ = vidssl("concepts", "stats", "hmdb51")
    assert "shared attributes" in out and "body_parts arms/hands" in out


def answered(vidssl: Run, tmp_path: Path) -> tuple[object, ...]:
    """The command about two names, whose questions are asked and answered in files."""
    (tmp_path / "names.txt").write_text("doing a headspin\nfolding a kite\n")
    todo, answers = tmp_path / "todo.jsonl", tmp_path / "answers.jsonl"
    command = ("concepts", "generate", tmp_path / "names.txt", tmp_path / "made.json", "--backend", "file",
               "--model", "m", "--requests", todo)  # fmt: skip
    assert vidssl(*command)[0] == 1
    lines = []
    for text in todo.read_text().splitlines():
        custom_id = json.loads(text)["custom_id"]
        lines.append(
            json.dumps(
                {"custom_id": custom_id, "answer": json.dumps({"descriptions": good_sentences(custom_id)})}
            )
        )
    answers.write_text("\n".join(lines))
    return (*command, "--answers", answers)


def test_generating_by_files_and_its_dry_run(vidssl: Run, tmp_path: Path) -> None:
    arguments = answered(vidssl, tmp_path)
    (tmp_path / "made.json").unlink()
    code, out, _ = vidssl(*arguments, "--dry-run")
    assert code == 0
    assert "2 requests" in out
    assert "headspin" in out
    assert not (tmp_path / "made.json").exists()
    code, out, _ = vidssl(*arguments)
    assert code == 0
    assert "answered 2" in out
    assert len(json.loads((tmp_path / "made.json").read_text())["concepts"]) == 2
    _, out, _ = vidssl(*arguments)
    assert "asked 0" in out  # what is there is never asked twice


def test_a_dead_server_leaves_the_file_that_is_there(vidssl: Run, tmp_path: Path) -> None:
    arguments = answered(vidssl, tmp_path)
    assert vidssl(*arguments)[0] == 0
    names, made = tmp_path / "names.txt", tmp_path / "made.json"
    before = made.read_bytes()
    dead = ("--backend", "file", "--model", "other", "--requests", tmp_path / "todo.jsonl")
    code, out, _ = vidssl("concepts", "generate", names, made, *dead)
    assert code == 1
    assert "left as it is" in out
    assert made.read_bytes() == before
    assert json.loads((tmp_path / "made.report.json").read_text())["asked"] == 2


@pytest.mark.parametrize(
    "bad",
    [("--temperature", -1), ("--max-new-tokens", 0), ("--seed", -1), ("--count", 3), ("--attempts", 0),
     ("--timeout", 0), ("--concurrency", 0)],
)  # fmt: skip
def test_impossible_options_of_generation(vidssl: Run, tmp_path: Path, bad: tuple[str, int]) -> None:
    command = ("concepts", "generate", "ucf101", tmp_path / "x.json", "--backend", "file", "--model", "m")
    code, _, err = vidssl(*command, "--requests", tmp_path / "todo.jsonl", *bad)
    assert (code, f"{bad[0]}={bad[1]}: must be" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_one_line(vidssl: Run, tmp_path: Path) -> None:
    assert "did you mean 'ucf101'" in one_line(*vidssl("concepts", "validate", "ucf11"))
    mistake = ("concepts", "generate", "ucf101", tmp_path / "x.json", "--backend", "openai", "--model", "m")
    assert "base_url" in one_line(*vidssl(*mistake))
    assert "did you mean 'cupl'" in one_line(
        *vidssl("concepts", "convert", "ucf101", tmp_path / "x", "--to", "cupli")
    )


def test_a_conversion_replaces_nothing_where_it_fails_or_reads_itself(vidssl: Run, tmp_path: Path) -> None:
    file, broken = tmp_path / "words.json", tmp_path / "broken.json"
    vidssl("concepts", "convert", "hmdb51", file)
    before = file.read_bytes()
    assert "is what is read" in one_line(*vidssl("concepts", "convert", file, file, "--to", "names"))
    broken.write_bytes(before[:-100])
    one_line(*vidssl("concepts", "convert", broken, file))
    one_line(*vidssl("concepts", "convert", "ucf101+", file))
    assert file.read_bytes() == before
