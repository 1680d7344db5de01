"""The local page as a person uses it: every button is pressed in headless Chromium, with good, short and broken videos."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidssl.data.encode import write_video

pytest.importorskip("gradio", reason="needs the extra app")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (the group browser)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH"),
]
WAIT = 120_000  # ms, on a machine that is busy
FRAMES, SIDE = 24, 96
BOX = "#box textarea, #box input"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A red square that goes to the right; one frame of it; what is no video; what does not end like one."""
    folder = tmp_path_factory.mktemp("videos")
    frames = np.full((FRAMES, SIDE, SIDE, 3), 80, np.uint8)
    for t in range(FRAMES):
        frames[t, 20:50, 10 + t : 40 + t] = (255, 40, 40)
    files = {name: folder / f"{name}.mp4" for name in ("good", "short", "broken")}
    write_video(files["good"], frames, 10)
    write_video(files["short"], frames[:1], 10)
    files["broken"].write_bytes(b"none" * 1000)
    return files


@pytest.fixture(scope="module")
def address(finished: Path, sprites: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vidssl", "app", str(finished), "--videos", str(sprites / "val"), "--port", str(port)]  # fmt: skip
    with subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and "Ctrl-C ends it" in server.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=[1200, 390])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """On a desk and on a phone; everything that it asks for is on this machine, and no script of it fails."""
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    opened.set_default_timeout(WAIT)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda asked: None if asked.url.startswith((address, "blob:", "data:", "about:")) else wrong.append(asked.url))  # fmt: skip
    opened.goto(address)
    opened.wait_for_selector("#video input[type=file]", state="attached")
    yield opened
    opened.close()
    assert not wrong


def press(page: Any, tab: str, button: str) -> None:
    page.get_by_role("tab", name=tab).click()
    page.get_by_role("button", name=button, exact=True).click()


def wait_for_message(page: Any, text: str) -> None:
    """It stays until it is closed, as it is here, with what gradio says itself."""
    page.locator(".toast-body", has_text=text).first.wait_for()
    while page.locator(".toast-close").count():
        page.locator(".toast-close").first.click()
        time.sleep(0.5)


def upload(page: Any, file: Path) -> None:
    page.set_input_files("#video input[type=file]", str(file))


def mark(page: Any, *corners: tuple[int, int]) -> list[float]:
    """Click on the first frame, at pixels of the video; the box that is read from it."""
    frame = page.locator("#frame img")
    frame.scroll_into_view_if_needed()
    for number, (x, y) in enumerate(corners, 1):
        shown = frame.bounding_box()
        frame.click(position={"x": shown["width"] * x / SIDE, "y": shown["height"] * y / SIDE})
        page.wait_for_function(f"document.querySelector('{BOX}').value.split(',').length == {2 * number}")
    return [float(x) for x in page.locator(BOX).input_value().split(",")]


@pytest.mark.parametrize(
    ("tab", "button"), [("Labels", "Classify"), ("Neighbours", "Find"), ("Follow", "Follow")]
)
def test_without_a_video_every_button_asks_for_one(page, tab, button):
    press(page, tab, button)
    wait_for_message(page, "none was given")


def test_every_button_answers_for_a_video(page, videos):
    upload(page, videos["good"])
    page.wait_for_selector("#video video")
    press(page, "Labels", "Classify")
    shown = page.frame_locator("iframe[srcdoc*='in all']")
    assert "walking" in shown.locator("p").inner_text() and shown.locator("path.line").count() == 3
    press(page, "Neighbours", "Find")
    near = page.frame_locator("iframe[srcdoc*='cosine']")
    near.locator("img").nth(5).wait_for(state="attached")
    assert near.locator("img").count() == 6
    page.get_by_role("tab", name="Follow").click()
    assert np.abs(np.array(mark(page, (10, 20), (40, 50))) - (10, 20, 30, 30)).max() <= 2
    page.get_by_role("button", name="Follow", exact=True).click()
    page.wait_for_selector("#followed video")


def test_one_frame_has_labels_and_neighbours_and_nothing_to_follow(page, videos):
    upload(page, videos["short"])
    page.wait_for_selector("#video video")
    press(page, "Labels", "Classify")
    shown = page.frame_locator("iframe[srcdoc*='in all']")
    shown.locator("p").wait_for()
    assert shown.locator("circle").count() == 3  # a line of one point would not be seen
    press(page, "Neighbours", "Find")
    page.wait_for_selector("iframe[srcdoc*='cosine']")
    page.get_by_role("tab", name="Follow").click()
    mark(page, (10, 20), (40, 50))
    page.get_by_role("button", name="Follow", exact=True).click()
    wait_for_message(page, "frame")


def test_a_broken_video_is_said_in_a_line_that_stays_and_leaves_nothing_of_the_last_one(page, videos):
    upload(page, videos["good"])
    page.wait_for_selector("#video video")
    page.get_by_role("tab", name="Follow").click()
    mark(page, (10, 20), (40, 50))
    page.locator("#video button[aria-label='Clear']").click()
    upload(page, videos["broken"])
    wait_for_message(page, "broken.mp4: ")
    assert not page.locator(BOX).input_value()
    assert not page.locator("#frame img").count()
    press(page, "Labels", "Classify")
    wait_for_message(page, "broken.mp4: ")
    assert not page.locator("iframe").count()
