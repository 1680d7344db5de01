"""Several indexes as one, under the folder that they have in common."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vidssl.data.manifest.formats.folders import first_names
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.store.table import joined_facts


def common_root(indexes: Sequence[VideoIndex]) -> Path:
    """The nearest folder above the roots of all; of one index its own root."""
    return Path(os.path.commonpath([index.root for index in indexes]))


def moved(index: VideoIndex, root: Path) -> VideoIndex:
    """The same videos with paths relative to another root, a folder above or at the index's own."""
    inside = index.root.relative_to(root)
    return replace(
        index,
        root=root,
        paths=tuple((inside / path).as_posix() for path in index.paths),
        missing=tuple((inside / path).as_posix() for path in index.missing),
    )


def join_indexes(indexes: Sequence[VideoIndex], root: Path) -> VideoIndex:
    """The videos of all, one index after the other; classes of one name are one class.

    A video that more than one of them holds stays in each, and is remarked on.

    Args:
        indexes: at least one.
        root: of the result, see `common_root`.
    """
    if len(indexes) == 1:
        return indexes[0]
    sets = [moved(index, root) for index in indexes]
    paths = [path for one in sets for path in one.paths]
    again = [path for path, times in Counter(paths).items() if times > 1]
    remarks = [f"videos in more than one training set: {len(again)} ({first_names(again)})"] if again else []
    joined = VideoIndex.of(root, paths, [label for one in sets for label in one.labels])
    groups = tuple(group for one in sets for group in one.groups or (None,) * len(one))
    parts = tuple(part for one in sets for part in one.parts or (None,) * len(one))
    return replace(
        joined,
        groups=groups if any(groups) else (),
        parts=parts if any(parts) else (),
        missing=tuple(path for one in sets for path in one.missing),
        remarks=(*(remark for one in sets for remark in one.remarks), *remarks),
        facts=joined_facts([one.facts for one in sets]),
    )
