"""A data set described for a person, and its list as a file."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vidssl.data.manifest.check import CheckReport
from vidssl.data.manifest.manifest import VideoIndex


def describe_index(index: VideoIndex) -> str:
    """Number of videos and classes, the sizes of the classes, the first rows."""
    counts = Counter(label for label in index.labels if label is not None)
    lines = [f"{index.root}: {len(index)} videos, {len(index.classes)} classes (digest {index.digest})"]
    if counts:
        smallest, largest = min(counts.values()), max(counts.values())
        lines.append(f"videos per class: {smallest} to {largest}")
        lines += [f"  {count:6}  {name}" for name, count in sorted(counts.items())[:20]]
        if len(counts) > 20:
            lines.append(f"  … and {len(counts) - 20} more classes")
    lines.append("first videos:")
    lines += [
        f"  {path}  ({label or 'no label'})"
        for path, label in list(zip(index.paths, index.labels, strict=True))[:3]
    ]
    return "\n".join(lines)


def check_record(report: CheckReport) -> dict[str, Any]:
    """The outcome of a check as JSON data."""
    return {
        "root": str(report.good.root),
        "readable": len(report.good),
        "unreadable": [{"path": str(bad.path), "reason": bad.reason} for bad in report.bad],
        "digest": report.good.digest,
    }
