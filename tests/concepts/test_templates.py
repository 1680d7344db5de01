from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidssl.concepts.templates import (
    category_templates,
    placeholders,
    render,
    respell,
    template_fault,
    template_presets,
)
from vidssl.errors import VidsslError


@pytest.mark.parametrize("template", ["see {name}!", "see {}!", "see {c}!"])
def test_placeholders_of_other_projects_mean_the_name(template):
    assert render(template, "x") == "see x!"
    assert placeholders(template) == {"name"}
    assert respell(template, "{}") == "see {}!"


@given(st.text(max_size=20), st.text(max_size=20))
def test_braces_of_names_and_sentences_are_theirs(name, sentence):
    filled = render("<{name}, {{so}}, {description}>", name, sentence)
    assert filled == f"<{name}, {{so}}, {sentence}>"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a {nam}", "unknown placeholder {nam}; did you mean 'name'"),
        ("a {name", "literal brace is doubled"),
        ("a } b", "literal brace is doubled"),
        ("a {name!r}", "unknown placeholder"),
        ("a {name:>9}", "unknown placeholder"),
        ("a {name.upper}", "unknown placeholder"),
        ("a {0}", "unknown placeholder"),
    ],
)
def test_other_placeholders_are_refused(template, message):
    with pytest.raises(VidsslError, match=message):
        render(template, "x", "y")
    assert template_fault(template, "category") is not None


def test_templates_without_class_content_are_faults():
    assert template_fault("a video.", "category") == "category template 'a video.': must hold {name}"
    assert "only" in (template_fault("{name}: {description}", "category") or "")
    assert "{description}" in (template_fault("a video of {name}", "description") or "")
    assert template_fault("{name}, which has {description}", "description") is None
    with pytest.raises(VidsslError, match="no description of 'x'"):
        render("{description}", "x")


def test_category_templates_are_chosen_in_four_ways(tmp_path):
    file = tmp_path / "t.txt"
    file.write_text("\ufeffa {}\r\n\r\nb {name}\r\n", encoding="utf-8")
    assert category_templates("clip_k700") == template_presets()["clip_k700"]
    assert category_templates("look: {}") == ("look: {}",)
    assert category_templates(str(file)) == ("a {}", "b {name}")
    assert category_templates(["a {c}"]) == ("a {c}",)
    with pytest.raises(VidsslError, match="not a preset; did you mean 'action'"):
        category_templates("acton")
    with pytest.raises(VidsslError, match="there is none"):
        category_templates([])
    with pytest.raises(VidsslError, match=r"must hold \{name\}"):
        category_templates(["a clip"])
