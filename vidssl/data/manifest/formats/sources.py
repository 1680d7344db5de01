"""Whatever a user names as data: told apart here, and read by the format that it is."""

from __future__ import annotations

import re
from pathlib import Path

from vidssl.data.decode.address import local_form, split_rate, url_of, with_rate
from vidssl.data.hub import is_saved
from vidssl.data.manifest.formats.folders import Found, first_names, has_videos, read_folder
from vidssl.data.manifest.formats.lists import Missing, read_list
from vidssl.data.manifest.formats.saved import read_saved
from vidssl.data.manifest.formats.shards import read_shards, shard_files
from vidssl.data.manifest.formats.splits import official_lines
from vidssl.errors import VidsslError, did_you_mean

METADATA = ("metadata.csv", "metadata.jsonl")  # of Hugging Face's `videofolder`


def read_source(source: str | Path, missing: Missing = "error") -> Found:
    """The videos of a folder, a list, an annotation file, or tar files.

    Args:
        source: what names them; ``#fps=12`` behind it is the rate of the folders of frames in it, ``#split=val`` the
            split of an annotation file that holds several, ``#split=train1`` an official one of UCF101 or HMDB51.
        missing: what to do about listed files that do not exist, see `read_list`.

    Raises:
        VidsslError: nothing there, no videos in it, or a list that cannot be understood.
    """
    path, rate, split = _marks(source)
    files = shard_files(path)
    if files and not (path.is_dir() and has_videos(path)):
        return read_shards(files)
    if (url := url_of(path)) is not None:
        raise VidsslError(
            f"{url}: of other machines only tar files can be read, such as {url}/train-{{000..012}}.tar"
        )
    if path.is_dir():
        if is_saved(path) and not has_videos(path):
            return read_saved(path)
        described = next((file for name in METADATA if (file := path / name).is_file()), None)
        if described is not None and split is None and _names_files(described):
            return read_source(described if rate is None else with_rate(str(described), rate), missing)
        found = read_folder(path, rate)
        if split is not None:
            found = found._replace(lines=official_lines(path, found.lines, split))
        left_out = [f"tar files beside the videos, left out: {len(files)} ({files[0].name})"] if files else []
        return found._replace(remarks=[*found.remarks, *left_out])
    if not path.exists():
        raise VidsslError(nothing_there(path))
    listed = read_list(path, missing, rate, split)
    gone, known = [line.name for line in listed.missing], {line.label for line in listed.videos}
    lost = list(dict.fromkeys(str(line.label) for line in listed.missing if line.label not in {*known, None}))
    fate = "counted as failed" if missing == "count" else "left out"
    remarks = [f"listed but missing, {fate}: {len(gone)} ({first_names(gone)})"] if gone else []
    remarks += [f"classes all of whose videos are missing: {len(lost)} ({first_names(lost)})"] if lost else []
    return Found(path.parent, listed.videos, listed.missing, remarks)


def _marks(source: str | Path) -> tuple[Path, float | None, str | None]:
    """The path of a source, its rate and its split, in whichever order these stand behind it."""
    path, split = local_form(source), None
    if not path.exists() and (match := re.fullmatch(r"(.*)#split=([^#/]+)(#.*)?", str(path), re.DOTALL)):
        path, split = Path(match[1] + (match[3] or "")), match[2]
    return *split_rate(path), split


def _names_files(file: Path) -> bool:
    """Whether metadata of a Hugging Face ``videofolder`` name files, and are not about something else."""
    with file.open("rb") as stream:
        return b"file_name" in stream.readline()


def nothing_there(path: Path) -> str:
    """Names the first part of ``path`` that does not exist, and what lies there instead."""
    missing = next(part for part in (*reversed(path.parents), path) if not part.exists())
    try:
        siblings = [entry.name for entry in missing.parent.iterdir()]
    except OSError:
        siblings = []
    where = "" if missing == path else f" ({missing} does not exist)"
    return f"{path}: no such file or folder{where}{did_you_mean(missing.name, siblings)}"
