"""From what a list writes as labels to the names of classes: numbers through the class list that lies beside it."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from vidssl.data.manifest.classes import read_class_list, read_text
from vidssl.data.manifest.formats.line import GAPS, Line
from vidssl.errors import VidsslError

CLASS_LISTS = ("classes.csv", "classInd.txt")  # the second is UCF101's
OF_A_LIST = ("{}_idx2cls.csv", "raw_{}_idx2cls.json")  # beside train.csv, as FROSTER has them


def name_labels(path: Path, lines: Sequence[Line]) -> list[Line]:
    """Lines whose labels are names where they can be, and None where -1 or a gap stands.

    If all labels are whole numbers (1.0 too: a pandas column with gaps) and one of `CLASS_LISTS` or `OF_A_LIST` lies beside
    the list at `path`, they become the names it gives them; else they stay numbers.

    Raises:
        VidsslError: a number that the class list does not have, or numbers most of which contradict the names of the
            videos' folders.
    """
    lines = [line._replace(label=None) if line.label in GAPS else line for line in lines]
    given = {line.label for line in lines if line.label is not None}
    whole = {label: re.sub(r"\.0+$", "", label) for label in given}
    if not given or not all(number.removeprefix("-").isdecimal() for number in whole.values()):
        _compare_folders(path, lines)
        return lines
    stems = dict.fromkeys(
        (path.stem, path.stem.partition("_")[0])
    )  # train_1.csv has the classes of train.csv
    files = [*CLASS_LISTS, *(name.format(stem) for stem in stems for name in OF_A_LIST)]
    beside = next((file for name in files if (file := path.parent / name).is_file() and file != path), None)
    names = _numbered(beside) if beside is not None else {}
    unknown = {label for label, number in whole.items() if names and int(number) not in {*names, -1}}
    for line in lines:
        if line.label in unknown:
            raise VidsslError(
                f"{path}: line {line.number}: label {line.label} is not an id of {beside} "
                f"(it has {min(names)} to {max(names)}; are labels and classes counted from the same number?)"
            )
    name_of = {
        label: None if int(number) == -1 else names.get(int(number), number)
        for label, number in whole.items()
    }
    named = [line._replace(label=name_of.get(line.label or "")) for line in lines]
    _compare_folders(path, named, names)
    return named


def _numbered(file: Path) -> dict[int, str]:
    if file.suffix == ".json":
        return _numbered_in_json(file)
    listed = read_class_list(file)
    names = {} if listed is None else listed.numbered(file)
    if not names:
        raise VidsslError(f"{file}: numbers no classes; expected lines such as 0,archery or 1 archery")
    return names


def _numbered_in_json(file: Path) -> dict[int, str]:
    """``{"0": "archery", "1": "bowling"}``"""
    try:
        names = {int(number): name for number, name in json.loads(read_text(file)).items()}
    except (ValueError, AttributeError):
        names = {}
    if not names or not all(isinstance(name, str) for name in names.values()):
        raise VidsslError(f'{file}: numbers no classes; expected such as {{"0": "archery", "1": "bowling"}}')
    return names


def _compare_folders(path: Path, lines: Sequence[Line], names: Mapping[int, str] = {}) -> None:
    """Labels that are not the class that the video's own folder is named after.

    Args:
        path: of the list. lines: with class names as labels.
        names: number -> class, where the labels were numbers: then most of the labels cannot be wrong by intention.

    Raises:
        VidsslError: in that case.
    """
    known = {
        _key(name) for name in (names.values() or {line.label for line in lines if line.label is not None})
    }
    keys = [(line, _key(PurePosixPath(line.path).parent.name)) for line in lines if line.label is not None]
    compared = [(line, key) for line, key in keys if key and key in known]
    wrong = [line for line, key in compared if key != _key(line.label or "")]
    if not wrong:
        return
    first, folder = wrong[0], PurePosixPath(wrong[0].path).parent.name
    numbers = {name: number for number, name in names.items()}
    given = f"{numbers[first.label or '']}, which is {first.label!r}," if names else f"{first.label!r}"
    message = (
        f"{path}: line {first.number}: label {given} of a video in the folder {folder!r}; labels and folders disagree in "
        f"{len(wrong)} of {len(compared)} lines"
    )
    if names and len(wrong) > len(compared) / 2:
        raise VidsslError(f"{message}; are the labels counted from 1 and the classes from 0?")
    warnings.warn(message, stacklevel=5)


def _key(name: str) -> str:
    """Letters and digits only: HandstandPushups, handstand_pushups and Handstand Pushups are one class."""
    return re.sub(r"[\W_]+", "", name).casefold()
