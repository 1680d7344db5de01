from __future__ import annotations

import html.parser
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tests.command_line import one_line
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions, knn
from vidssl.files import write_json
from vidssl.reporting import write_report
from vidssl.reporting.curves import troubles
from vidssl.reporting.grouping import clusters, nearest
from vidssl.training.listing import read_run

FAST = EvalOptions(clips=1, workers=0, batch_size=8)
NASTY = "<img src=x onerror=alert(1)>"
VOID = {"meta", "img", "br", "link", "input", "line", "path", "rect", "circle"}


class Page(html.parser.HTMLParser):
    """What a browser would see: tags, attributes and texts; refuses tags that are left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def read_page(file: Path) -> Page:
    """The page; it must not ask anything of the network, and run nothing."""
    page = Page(file.read_text(encoding="utf-8"))
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            if name in ("src", "href"):
                assert value is not None and value.startswith(("data:image/", "#")), value
    return page


@pytest.fixture(scope="module")
def measured(finished, sprites, tmp_path_factory):
    """A copy of a finished run with a k-NN result in it."""
    run = tmp_path_factory.mktemp("measured") / "run"
    shutil.copytree(finished, run)
    result = knn(run, sprites / "train", sprites / "val", k=[3], options=FAST)
    write_json(run / "results" / "knn.json", result)
    return run


@pytest.fixture(scope="module")
def page(measured, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    assert write_report([measured], file, options=FAST) == file
    return read_page(file)


def test_the_page_shows_what_the_run_and_its_result_say(page, measured):
    scores = json.loads((measured / "results" / "knn.json").read_text())["scores"]
    for name in ("trained, k = 3", "untrained, k = 3", "motion energy, k = 3"):
        low, high = scores[name]["top1_interval"]
        assert f"{100 * scores[name]['top1']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]" in page.text
    assert "Nearest neighbours" in page.text and "Clusters" in page.text and "Patches" in page.text
    assert "vidssl knn" in page.text and "estimator: exact" in page.text and "features/rankme" in page.text
    pictures = [a["src"] for tag, a in page.tags if tag == "img"]
    assert len(pictures) > 20 and all(src.startswith("data:image/webp;base64,") for src in pictures)


def test_thumbnails_move(page):
    import base64
    import io

    from PIL import Image

    source = next(a["src"] for tag, a in page.tags if tag == "img")
    assert Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).n_frames > 1


def test_the_matrix_counts_every_test_video(page, sprites):
    cells = [text for text in page.texts if re.search(r" taken for .*: \d+ of \d+$", text)]
    counted = sum(int(re.search(r": (\d+) of", text)[1]) for text in cells)
    assert counted == len(list((sprites / "val").rglob("*.mp4")))


def test_sections_without_data_are_left_out_and_named(measured, tmp_path):
    read = read_page(write_report([measured / "results" / "knn.json"], tmp_path / "a.html", videos=False))
    assert "knn on" in read.text and "Curves" not in read.text and "Nearest neighbours" not in read.text
    assert "curves: no run with a log" in read.text and "left out, as asked for" in read.text


def test_names_from_outside_are_text_and_nothing_else(measured, tmp_path):
    """Class names, paths, notes, keys of the recipe and of the log are not ours."""
    run = tmp_path / "evil"
    shutil.copytree(measured, run)
    file = run / "results" / "knn.json"
    record = json.loads(file.read_text().replace("moving_left", NASTY))
    record["notes"], record["environment"] = [NASTY], {NASTY: NASTY}
    record["scores"][NASTY] = record["scores"]["chance"]
    file.write_text(json.dumps(record))
    with (run / "log.jsonl").open("a") as log:
        log.write(json.dumps({"step": 7, f"evaluation/{NASTY}": 1.0}) + "\n")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, NASTY: NASTY}))
    (run / "quarantine.csv").write_text(
        f"path,decoder,cause,times,first_step,last_step\n{NASTY},av,{NASTY},1,2,2\n"
    )
    read = read_page(write_report([run], tmp_path / "a.html", videos=False, title=NASTY))
    assert NASTY in read.text and not [a for tag, a in read.tags if tag == "img"]


BROKEN = (
    "", "[1]", "{", '{"task": 3}', '{"task": "knn", "scores": {"a": 1}, "val": {"path": "x"}}', '{"task": "dynamics"}',
    '{"task": "knn", "scores": {}, "data": {}}', '{"task": "retrieval", "scores": [], "data": null}',
)  # fmt: skip


def test_a_broken_result_is_named_and_loses_no_other(measured, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(measured, run)
    for number, content in enumerate(BROKEN):
        (run / "results" / f"broken{number}.json").write_text(content)
    read = read_page(write_report([run], tmp_path / "a.html", videos=False))
    assert "trained, k = 3" in read.text
    assert all(f"broken{number}.json" in read.text for number in range(len(BROKEN)))


def test_troubles_of_a_run_are_counted(measured, tmp_path):
    clean = troubles(read_run(measured))
    run = tmp_path / "run"
    shutil.copytree(measured, run)
    rows = [
        {"step": 7, "loss": 1.0, "features/std": 1e-9, "features/effective_rank": 1.0},
        {"step": 8, "loss": None, "skipped": 1, "skipped_videos": ["a.mp4"]},
    ]
    with (run / "log.jsonl").open("a") as log:
        log.writelines(json.dumps(row) + "\n" for row in rows)
    said = "\n".join(set(troubles(read_run(run))) - set(clean))
    assert "looked collapsed" in said and "the last 7" in said
    assert "step 8 was skipped" in said and "a.mp4" in said


def test_errors_are_one_line(vidssl, tmp_path, measured):
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.json").write_text("{}")
    assert "no such file or folder" in one_line(*vidssl("report", tmp_path / "gone"))
    assert "neither a run" in one_line(*vidssl("report", tmp_path / "empty"))
    assert "names no task" in one_line(*vidssl("report", tmp_path / "no.json"))
    assert ".html" in one_line(*vidssl("report", measured, "-o", tmp_path / "a.pdf"))
    assert "gone: no such file or folder" in one_line(
        *vidssl("report", measured, "--videos", tmp_path / "gone", "-o", tmp_path / "a.html")
    )
    assert not (tmp_path / "a.html").exists()


def test_nearest_equals_brute_force():
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    unit = rows.double() / rows.double().norm(dim=1, keepdim=True)
    for query, found in enumerate(nearest(rows, 3)):
        cosines = {other: float(unit[query] @ unit[other]) for other in range(9) if other != query}
        assert [row for row, _ in found] == sorted(cosines, key=lambda row: -cosines[row])[:3]
        assert all(abs(value - cosines[row]) < 1e-6 for row, value in found)


def test_clusters_find_blobs_and_hold_every_row_once():
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(3, 6)
    rows = torch.cat([centre + 0.05 * torch.randn(7, 6, generator=generator) for centre in centres])
    groups = clusters(rows, 3)
    assert sorted(sorted(members) for members, _ in groups) == [
        list(range(7 * k, 7 * k + 7)) for k in range(3)
    ]
    assert all(set(best) <= set(members) for members, best in groups)
    assert groups == clusters(rows, 3)


def test_loose_videos_have_no_classes(measured, sprites, tmp_path):
    loose = tmp_path / "loose"
    loose.mkdir()
    for number, file in enumerate(sorted((sprites / "val").rglob("*.mp4"))[:5]):
        shutil.copy(file, loose / f"{number}.mp4")
    read = read_page(write_report([measured], tmp_path / "a.html", videos=loose, options=FAST))
    assert "same class" not in read.text and "Nearest neighbours" in read.text
    assert "0.mp4" in read.text and "0.mp4 0.mp4" not in read.text  # named once
    (loose / "broken.mp4").write_bytes(b"none")
    assert (
        "broken.mp4"
        in read_page(write_report([measured], tmp_path / "a.html", videos=loose, options=FAST)).text
    )
    for video in loose.glob("[1-4].mp4"):
        video.unlink()
    with pytest.raises(VidsslError, match="two are needed"):
        write_report([measured], tmp_path / "b.html", videos=loose, options=FAST)
