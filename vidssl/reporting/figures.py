"""Figures that a command drew beside its result, made small enough for the page."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from vidssl.reporting.thumbnails import data_uri

MOST, WIDEST = 4, 1000  # figures of a result; pixels


def figures_beside(file: Path, result: Mapping[str, Any]) -> list[Markup]:
    """The PNG files that the result names and that lie in its own folder; others are not looked for."""
    found = []
    for name in result.get("figures", ())[:MOST]:
        picture = file.parent / Path(str(name)).name
        if picture.suffix != ".png" or not picture.is_file():
            continue
        try:
            with Image.open(picture, formats=["PNG"]) as image:
                shown = image.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        shown.thumbnail((WIDEST, 4 * WIDEST))
        buffer = io.BytesIO()
        shown.save(buffer, format="WEBP", quality=70)
        found.append(
            Markup(
                '<figure class="wide"><img alt="{0}" src="{1}"><figcaption>{0}</figcaption></figure>'
            ).format(picture.name, data_uri(buffer.getvalue(), "image/webp"))
        )
    return found
