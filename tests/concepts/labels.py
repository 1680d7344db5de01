"""The label files of public projects, which some checkouts have beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

LABELS = Path(__file__).parents[2] / "../shared/data/labels"
needs_labels = pytest.mark.skipif(
    not LABELS.is_dir(), reason="the label files of the public data sets are not beside the checkout"
)
