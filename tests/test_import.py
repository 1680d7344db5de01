"""`import vidssl` is cheap; its functions arrive when they are first used."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import vidssl

HEAVY = [
    "decord",
    "av",
    "open_clip",
    "transformers",
    "pytorchvideo",
    "torchcodec",
    "lightly",
    "matplotlib",
    "timm",
]


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(m for m in {[*HEAVY, 'torch']} if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_import_is_quick_and_light() -> None:
    start = time.perf_counter()
    assert loaded_after("import vidssl") == set()
    assert time.perf_counter() - start < 2.0


def test_the_factory_imports_no_heavy_library_before_it_needs_one() -> None:
    assert loaded_after("import vidssl; vidssl.create_model; vidssl.load; vidssl.load_encoder") <= {"torch"}


def test_lazy_names() -> None:
    assert callable(vidssl.create_model)
    assert callable(vidssl.load)
    assert callable(vidssl.load_encoder)
    assert {"create_model", "load", "load_encoder", "__version__"} <= set(dir(vidssl))
    with pytest.raises(AttributeError, match="create_modle"):
        vidssl.create_modle  # noqa: B018
