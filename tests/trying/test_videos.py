from __future__ import annotations

from pathlib import Path

import pytest

from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.trying.videos import find_videos, recorded_together


def index_of(*rows):
    return VideoIndex.of(Path("/videos"), [path for path, _ in rows], [label for _, label in rows])


def linked(folder, files, names):
    for file, name in zip(files, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(file)
    return folder


@pytest.fixture(scope="session")
def clips(sprites):
    """Files of three classes, eight of each."""
    return {
        name: sorted((sprites / "train" / name).glob("*.mp4"))
        for name in ("growing", "moving_left", "moving_right")
    }


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["v_a_g01_c01", "v_a_g01_c02", "v_a_g02_c01", "v_a_g03_c01"], ["v_a_g01", "v_a_g01", "v_a_g02", "v_a_g03"]),
        (["walk1", "walk2", "walk3"], None),  # numbered through: nothing is told
        (["01", "02", "03"], None),
        (["red", "green", "blue"], None),
        (["garden-1", "garden-2", "street 7"], ["garden", "garden", "street"]),
    ],
)  # fmt: skip
def test_names_tell_what_was_recorded_together(names, groups):
    found = recorded_together(index_of(*((f"x/{name}.mp4", "x") for name in names)))
    assert list(found) == (groups or [])


def test_what_was_recorded_together_is_held_out_together(tmp_path, clips):
    names = [f"{label}/{place}-{n}.mp4" for label in ("a", "b") for place in "pqrs" for n in (1, 2)]
    linked(tmp_path, [*clips["growing"], *clips["moving_left"]], names)
    found = find_videos(tmp_path)
    assert found.val is not None and len(found.train) + len(found.val) == 16
    assert not {*found.train.groups} & {*found.val.groups}
    assert {*found.val.labels} == {*found.train.labels} == {"a", "b"}
    assert any("kept together" in note for note in found.notes)


def test_a_third_of_every_class_is_held_out_and_the_split_is_the_seeds(tmp_path, clips):
    for label, files in clips.items():
        linked(tmp_path, files, [f"{label}/{n}.mp4" for n in range(8)])
    first, again, other = (find_videos(tmp_path, seed=seed) for seed in (0, 0, 1))
    assert sorted(first.val.labels) == sorted(3 * [*clips])
    assert not {*first.val.paths} & {*first.train.paths}
    assert first.val.paths == again.val.paths != other.val.paths


def test_the_folders_own_parts_are_kept(sprites):
    found = find_videos(sprites)
    assert len(found.train) == 24 and len(found.val) == 9
    assert all(path.startswith("val/") for path in found.val.paths)


def test_videos_without_a_label_are_adapted_on_and_never_held_out(tmp_path, clips):
    linked(tmp_path, clips["growing"][:4], [f"a/{n}.mp4" for n in range(4)])
    linked(tmp_path, clips["moving_left"][:4], [f"b/{n}.mp4" for n in range(4)])
    linked(tmp_path, clips["moving_right"][:3], [f"{n}.mp4" for n in range(3)])
    found = find_videos(tmp_path)
    assert None not in found.val.labels and found.train.labels.count(None) == 3


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([f"{n}.mp4" for n in range(8)], "no class folders"),
        ([f"one/{n}.mp4" for n in range(8)], "there is one class, 'one'"),
        ([f"{n}/a.mp4" for n in range(8)], "too few videos of a class: '0' has the most, 1 of 8"),
        (
            [f"train/a/{n}.mp4" for n in range(3)] + ["train/b/0.mp4"] + [f"val/c/{n}.mp4" for n in range(4)],
            "what would be held out has no class that the rest has twice",
        ),
    ],
)
def test_without_two_classes_to_hold_out_from_there_are_no_accuracies(tmp_path, clips, names, why):
    found = find_videos(linked(tmp_path, clips["growing"], names))
    assert found.val is None and len(found.train) == 8
    assert any(note.startswith(f"no accuracies: {why}") for note in found.notes)


def test_broken_videos_are_named_and_left_out(tmp_path, clips):
    linked(tmp_path, clips["growing"], [f"{n}.mp4" for n in range(8)])
    (tmp_path / "broken.mp4").write_bytes(b"none")
    found = find_videos(tmp_path)
    assert [bad.path for bad in found.bad] == ["broken.mp4"] and len(found.train) == 8


def test_a_name_with_a_line_break_is_left_out_and_odd_ones_are_listed(tmp_path, clips):
    odd = ["my clip", " tab\t", 'it\'s "quoted"', "-v", "#hash?", "a, b; $HOME `x`", "ünï 视频 🎬", "dots.."]
    linked(tmp_path, clips["growing"][:1], ["new\nline.mp4"])
    linked(tmp_path, clips["growing"], [f"{name}.mp4" for name in odd])
    found = find_videos(tmp_path)
    assert [bad.path for bad in found.bad] == ["new\nline.mp4"] and "line break" in found.bad[0].reason
    found.train.write(tmp_path / "train.csv")
    assert sorted(VideoIndex.read(tmp_path / "train.csv").paths) == sorted(f"{name}.mp4" for name in odd)


def test_a_class_of_which_nothing_is_held_out_is_named(tmp_path, clips):
    linked(tmp_path, clips["growing"], [f"a/{n}.mp4" for n in range(8)])
    linked(tmp_path, clips["moving_left"], [f"b/{n}.mp4" for n in range(8)])
    assert not any("not measured" in note for note in find_videos(tmp_path).notes)
    linked(tmp_path, clips["moving_right"][:1], ["lonely/x.mp4"])
    assert any(
        "1 class of which no video is held out (lonely)" in note for note in find_videos(tmp_path).notes
    )


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_few_videos_are_refused_in_one_line(tmp_path, clips, count):
    linked(tmp_path, clips["growing"][:count], [f"{n}.mp4" for n in range(count)])
    with pytest.raises(VidsslError, match=f"{count} readable videos?; at least 8 are needed"):
        find_videos(tmp_path)


def test_a_folder_of_broken_videos_names_one_and_why(tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.mp4").write_bytes(b"none")
    with pytest.raises(VidsslError, match=r"0 readable videos \(3 cannot be read, such as 0.mp4: .+\)"):
        find_videos(tmp_path)


def test_one_video_and_an_empty_folder_are_no_folder_of_videos(tmp_path, clips):
    with pytest.raises(VidsslError, match="is one video"):
        find_videos(clips["growing"][0])
    with pytest.raises(VidsslError, match="no videos"):
        find_videos(tmp_path)
    with pytest.raises(VidsslError, match="no such"):
        find_videos(tmp_path / "nowhere")
