"""Each format once at full size: ViT-B/16 with random weights, 8 frames of 224 pixels."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

import vidssl
from vidssl.exporting import export
from vidssl.exporting.export import FORMATS
from vidssl.models.export import save_encoder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = vidssl.create_model("ViT-B-16")
    for name, parameter in encoder.named_parameters():  # what is learned of time is zero at the start
        if name.startswith("temporal") or name == "time_embedding":
            parameter.data.normal_(0, 0.01, generator=torch.Generator().manual_seed(len(name)))
    return save_encoder(encoder, tmp_path_factory.mktemp("full") / "encoder")


@pytest.mark.parametrize("format", FORMATS)
def test_full_size(format: str, source: Path, tmp_path: Path) -> None:
    started = time.process_time()
    record = export(source, tmp_path / "out", format, alone=format in ("open_clip", "transformers"))
    seconds = time.process_time() - started
    size = sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file())
    check = record["check"]
    worst = max(check["clip"], check["frames"]) / check["largest"]
    print(
        f"{format}: {seconds:.0f} s of CPU time, {size / 1e6:.0f} MB, clip {check['clip']:.1e}, frames {check['frames']:.1e}, "
        f"text {check['text']}, largest {check['largest']:.3g}, between {check['between']:.2g}, relative {worst:.1e}, "
        f"batch {record.get('batch')}"
    )
    assert record["input"]["frames"] == 8
    assert record["input"]["size"] == 224
