"""`vidssl app`: a local page to try an encoder on a video. It listens on this machine alone and asks nothing of the network.

gradio is optional and imported when the page is made. Uploaded files are not trusted: ending and size are looked at, and another process
opens them first (`require_video`). They and all that is made of them lie in a folder that goes when the page is closed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import typer

from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.evaluation.setup import EvalOptions
from vidssl.models.load import load_encoder
from vidssl.reporting.look import (
    LARGEST,
    first_frame,
    follow,
    labels_of_neighbours,
    labels_over_time,
    neighbours,
    require_video,
)

Corners = list[tuple[float, float]]
HOST = "127.0.0.1"


def serve(
    checkpoint: str,
    videos: Path | None = None,
    *,
    host: str = HOST,
    port: int = 7860,
    options: EvalOptions | None = None,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        checkpoint: whatever `load_encoder` takes; it is loaded once before anything is shown.
        videos: folder among which neighbours are looked for; of class folders, they name what is seen.
        host, port: that it listens on; 127.0.0.1 can be reached from this machine alone.

    Raises:
        VidsslError: for what names no encoder, a folder without videos, a port that is taken, or when gradio is not installed.
    """
    with TemporaryDirectory(prefix="vidssl-app-") as place:
        os.environ |= {
            "GRADIO_TEMP_DIR": place,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        gr = _gradio()
        page = build(gr, checkpoint, videos, Path(place), options)
        # The theme's own fonts would be fetched from elsewhere.
        theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
        try:
            page.launch(
                server_name=host,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=LARGEST,
                theme=theme,
                footer_links=[],
            )
        except OSError as error:
            raise VidsslError(f"--port {port}: cannot be listened on ({error}); choose another") from None
        typer.echo(f"http://{host}:{port} shows {checkpoint}; Ctrl-C ends it")
        page.block_thread()


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise VidsslError(
            f'app: needs gradio, which cannot be imported ({error}); pip install "vidssl[app]"'
        ) from None
    return gradio


def build(
    gr: Any, checkpoint: str, videos: Path | None, place: Path, options: EvalOptions | None = None
) -> Any:
    """The page, as `gradio.Blocks`.

    Args:
        gr: gradio. place: folder for what is written. Others: see `serve`.
    """
    has_text = load_encoder(checkpoint).text is not None
    classes = () if videos is None else VideoIndex.read(videos, "skip").classes

    def said(run: Callable[[], Any]) -> Any:
        """What it returns; a mistake of the user's is shown as one line, until it is closed."""
        try:
            return run()
        except VidsslError as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from None

    def given(video: str | None) -> str:
        if video is None:
            raise VidsslError("video: none was given")
        return str(require_video(video))

    def marked(corners: Corners, event: Any) -> Corners:
        place = (float(event.index[0]), float(event.index[1]))
        return [*corners, place] if len(corners) < 2 else [place]

    marked.__annotations__["event"] = gr.SelectData  # by which gradio knows what to pass

    with gr.Blocks(title=f"vidssl: {checkpoint}", delete_cache=(600, 3600)) as page:
        gr.Markdown(
            f"# {Path(checkpoint).name}\nTry an encoder on a video. Everything stays on this machine."
        )
        video = gr.Video(label="video", sources=["upload"], elem_id="video", height=280)
        made: list[Any] = []  # of this video, and gone with it
        if has_text or len(classes) > 1:
            with gr.Tab("Labels"):
                window = gr.Slider(0.5, 10, 2, step=0.5, label="seconds of a window")
                labels = gr.Textbox(
                    "walking, running, jumping", label="classes, separated by commas", visible=has_text
                )
                button, shown = gr.Button("Classify"), gr.HTML()
                made.append(shown)
            if has_text:
                button.click(
                    lambda v, n, w: said(lambda: str(labels_over_time(checkpoint, given(v), n, w, options))),
                    [video, labels, window],
                    shown,
                )
            else:
                button.click(
                    lambda v, w: said(
                        lambda: str(labels_of_neighbours(checkpoint, given(v), str(videos), w, options))
                    ),
                    [video, window],
                    shown,
                )
        if videos is not None:
            with gr.Tab("Neighbours"):
                button, near = gr.Button("Find"), gr.HTML()
                made.append(near)
                button.click(
                    lambda v: said(lambda: str(neighbours(checkpoint, given(v), videos, options))),
                    video,
                    near,
                )
        with gr.Tab("Follow"):
            gr.Markdown("Click two opposite corners of the box on the first frame.")
            corners: Any = gr.State([])
            frame = gr.Image(label="first frame", interactive=False, elem_id="frame")
            box = gr.Textbox(label="box: x, y, w, h", elem_id="box")
            button = gr.Button("Follow")
            followed = gr.Video(label="followed", elem_id="followed", height=280)
            made += [frame, followed, box]
            video.change(lambda: ([], *[None] * len(made)), None, [corners, *made])
            video.change(lambda v: None if v is None else said(lambda: first_frame(given(v))), video, frame)
            frame.select(marked, corners, corners).then(box_of_corners, corners, box)
            button.click(
                lambda v, b: said(lambda: str(follow(checkpoint, given(v), read_box(b), _new_file(place)))),
                [video, box],
                followed,
            )
    return page


def _new_file(place: Path) -> Path:
    return Path(mkdtemp(dir=place)) / "followed.mp4"


def box_of_corners(corners: Corners) -> str:
    """``x, y, w, h`` of two opposite corners; the first alone as ``x, y``, so that a click is seen."""
    if len(corners) < 2:
        return "".join(f"{x:g}, {y:g}" for x, y in corners)
    (a, b), (c, d) = corners
    return f"{min(a, c):g}, {min(b, d):g}, {abs(a - c):g}, {abs(b - d):g}"


def read_box(text: str) -> tuple[float, ...]:
    """
    Raises:
        VidsslError: for a text that is no four numbers.
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4:
        raise VidsslError(f"box {text[:40]!r}: click two corners on the first frame, or write x, y, w, h")
    return numbers
