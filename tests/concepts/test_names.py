from __future__ import annotations

import csv

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.concepts.labels import LABELS, needs_labels
from vidssl.concepts.names import compact_key, display_name, join_key, match_names, slug


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("apply_eye_makeup", "apply eye makeup"),
        ("HandstandPushups", "handstand pushups"),
        ("HandStandPushups", "handstand pushups"),
        ("Handstand Push-Ups", "handstand pushups"),
        ("YoYo", "yo yo"),
        ("TaiChi", "tai chi"),
        ("CleanAndJerk", "clean and jerk"),
        ("playing TVGame", "playing tv game"),
        ('"massaging  person’s head"', "massaging person's head"),
        ("'draw sword'", "draw sword"),
        ("petting animal (not cat)", "petting animal (not cat)"),
        ("\ufeffｆｅｎｃｉｎｇ (sport)".strip("\ufeff"), "fencing (sport)"),
        ("太極拳", "太極拳"),
    ],
)
def test_display_names(name, text):
    assert display_name(name) == text


def test_keys_join_spellings_and_nothing_else():
    assert join_key("HandstandPushups") == join_key("handstand_pushups") == join_key("Handstand pushups")
    assert join_key("petting animal (not cat)") == join_key("petting_animal_not_cat")
    assert join_key("push up") != join_key("pushup")
    assert compact_key("push up") == compact_key("pushup")
    assert join_key("person's") != join_key("persons")
    assert slug("passing American football (not in game)") == "passing-american-football-not-in-game"
    assert slug("massaging person's head") == "massaging-persons-head"


@settings(deadline=None)
@given(st.text(max_size=30))
@example(":''")  # quotes that only the loss of the punctuation makes the outermost
def test_normalising_twice_changes_nothing(name):
    assert display_name(display_name(name)) == display_name(name)
    assert join_key(join_key(name)) == join_key(name) == join_key(display_name(name))
    assert slug(slug(name)) == slug(name)


def test_matching_prefers_the_exact_name():
    assert match_names(["push_up", "PUSHUP", "biking"], ["pushup", "push up"]) == [1, 0, None]
    # Ambiguous without blanks: no guess.
    assert match_names(["p ushup"], ["pushup", "push up"]) == [None]
    assert match_names(["HANDSTANDPUSHUPS"], ["HandstandPushups"]) == [0]


def test_rows_are_found_by_any_name():
    known, aliases = ["juggling", "swimming", "archery"], [("club throwing", "shared"), ("Shared",), ()]
    names = ["Archery", "club_throwing", "shared", "x", "JUGGLING"]
    assert match_names(names, known, aliases) == [2, 0, None, None, 0]
    assert match_names(names, known) == [2, None, None, None, 0]


@needs_labels
def test_every_project_spells_the_same_classes():
    """The label maps of mmaction2 and the tables of X-CLIP agree in names for UCF101 and HMDB51, whatever the order."""
    for project, other in (
        ("hmdb51", "hmdb_51"),
        ("ucf101", "ucf_101"),
        ("k400", "kinetics_400"),
        ("k600", "kinetics_600"),
    ):
        ours = (LABELS / f"mmaction2/label_map_{project}.txt").read_text().split("\n")
        with (LABELS / f"xclip/{other}_labels.csv").open(encoding="utf-8-sig", newline="") as stream:
            theirs = [row["name"] for row in csv.DictReader(stream)]
        ours = [name for name in ours if name.strip()]
        assert {join_key(name) for name in ours} == {join_key(name) for name in theirs}
        assert len({compact_key(name) for name in ours}) == len(ours)


@needs_labels
def test_the_union_of_three_vocabularies_has_530_names():
    names = []
    for part in ("k400", "ucf101", "hmdb51"):
        names += (LABELS / f"mmaction2/label_map_{part}.txt").read_text().splitlines()
    names = [name for name in names if name.strip()]
    assert len(names) == 552
    assert len({join_key(name) for name in names}) == 530
