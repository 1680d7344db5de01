"""What stands behind the local page, without gradio."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
from markupsafe import Markup

from tests.command_line import one_line
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions
from vidssl.reporting import look
from vidssl.reporting.app import box_of_corners, read_box

FAST = EvalOptions(clips=1, workers=0)


def inside(frame: str) -> str:
    """What a frame holds; nothing of it may stand outside of its attribute."""
    found = re.fullmatch(r'<iframe sandbox style="[^"<>]*" srcdoc="([^"<>]*)"></iframe>', frame)
    return html.unescape(found[1])


@pytest.fixture
def video(sprites):
    return sorted((sprites / "val" / "growing").glob("*.mp4"))[0]


def test_labels_over_time_have_a_line_each_and_run_nothing(finished, video):
    nasty = "<script>alert(1)</script>"
    page = inside(look.labels_over_time(finished, video, f"growing, {nasty}", 0.5, FAST))
    assert page.count('<path class="line') == 2 and "growing" in page
    assert "<script" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("labels", "said"),
    [("one", "2 to 50 names"), ("a," * 60, "2 to 50"), ("a, " + "b" * 101, "100 characters")],
)
def test_class_names_are_few_and_short(finished, video, labels, said):
    with pytest.raises(VidsslError, match=said):
        look.labels_over_time(finished, video, labels, 0.5, FAST)


def test_a_name_is_never_taken_for_a_file(finished, video, sprites, monkeypatch):
    seen = []
    monkeypatch.setattr(
        look, "classify", lambda *given, **_: seen.append(given[2]) or {"probabilities": {}, "over_time": []}
    )
    monkeypatch.setattr(look, "_timeline", lambda *_: Markup())
    look.labels_over_time(finished, video, f"{sprites / 'classes.csv'}, b", 0.5, FAST)
    assert seen[0].endswith(",") and "," in seen[0][:-1]


def test_without_words_the_nearest_videos_name_what_is_seen(finished, sprites, video):
    page = inside(look.labels_of_neighbours(finished, video, sprites / "train", 0.5, FAST))
    shares = [float(x) for x in re.findall(r"(?:growing|moving_left|moving_right) (\d+) %", page)]
    assert len(shares) == 3 and sum(shares) == pytest.approx(100, abs=2)
    with pytest.raises(VidsslError, match="at least 2"):
        look.labels_of_neighbours(finished, video, sprites / "train" / "growing", 0.5, FAST)


def test_a_video_is_its_own_nearest_neighbour(finished, sprites, video):
    page = inside(look.neighbours(finished, video, sprites / "val", FAST))
    assert page.count("data:image/webp") == 6
    first = page.index("cosine 1.00")
    assert page.index("cosine") == first and "growing" in page[:first]


def test_a_box_is_followed_into_a_video(finished, video, tmp_path):
    file = look.follow(finished, video, (8, 8, 12, 12), tmp_path / "followed.mp4", frames=3)
    assert look.first_frame(file).shape[2] == 3 and look.first_frame(file).dtype == np.uint8
    for box in ((8, 8, 0, 12), (500, 500, 4, 4), (-1, 0, 4, 4), (float("nan"), 0, 4, 4)):
        with pytest.raises(VidsslError, match="box="):
            look.follow(finished, video, box, tmp_path / "none.mp4", frames=3)


def test_files_from_outside_are_looked_at_before_they_are_used(tmp_path, video):
    assert look.require_video(video) == video
    with pytest.raises(VidsslError, match="0 at most"):
        look.require_video(video, largest=100)
    for name, said in {"a.exe": "does not end like a video", "a.mp4": "a.mp4: "}.items():
        (tmp_path / name).write_bytes(b"none")
        with pytest.raises(VidsslError, match=said) as error:
            look.require_video(tmp_path / name)
        assert str(tmp_path) not in str(error.value)  # a page shows it


def test_boxes_are_read_as_they_are_written():
    assert read_box(box_of_corners([(30, 40), (10, 5)])) == (10, 5, 20, 35)
    assert box_of_corners([(1, 2)]) == "1, 2"
    for text in ("", "1, 2", "1,2,3", "a,b,c,d"):
        with pytest.raises(VidsslError, match="two corners"):
            read_box(text)


def test_without_gradio_one_line_says_what_to_install(vidssl, finished, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert 'pip install "vidssl[app]"' in one_line(*vidssl("app", finished))
