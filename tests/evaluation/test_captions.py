"""Tables of captions."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.evaluation.texts.captions import read_captions

INDEX = VideoIndex.of(Path("/v"), ["a/video1.mp4", "a/video2.mp4", "b/video2.mp4", "b/x.mp4"], [None] * 4)


def test_videos_are_named_by_path_file_or_stem_and_may_have_several_sentences(tmp_path):
    file = tmp_path / "c.csv"
    file.write_text(
        'key,vid_key,video_id,sentence\n1,m,video1,"a man, who runs"\n2,m,x.mp4,two\n3,m,video1,again\n4,m,gone,no\n',
        encoding="utf-8-sig",
    )
    found = read_captions(file, INDEX)
    assert found.videos == [0, 3] and found.of == [0, 1, 0] and found.absent == ["gone"]
    assert found.texts == ["a man, who runs", "two", "again"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("video_id,sentence\nvideo2,x\n", "video2: could be 2 videos, such as a/video2.mp4; give paths"),
        ("video_id,words\nvideo1,x\n", "no column of sentences"),
        ("sentence\nx\n", "no column of videos"),
        ("", "it has no rows"),
        ("video_id,sentence\nvideo1,\n", "row 2: lacks a video or a sentence"),
        (
            "video_id,sentence\nvideo9,x\n",
            r"none of its rows \(1\) is of a video of /v, such as a/video1.mp4",
        ),
    ],
)
def test_tables_that_cannot_be_used_are_errors(tmp_path, text, said):
    file = tmp_path / "c.csv"
    file.write_text(text)
    with pytest.raises(VidsslError, match=said):
        read_captions(file, INDEX)
