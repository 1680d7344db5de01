from __future__ import annotations

import pytest
import torch

from vidssl import utilisation
from vidssl.utilisation import Work, peak_rate, rate_by_name


@pytest.mark.parametrize(
    ("name", "bf16", "fp32"),
    [
        ("NVIDIA H200", 989, 67),
        ("NVIDIA H100 80GB HBM3", 989, 67),
        ("NVIDIA H100 PCIe", 756, 51),
        ("NVIDIA A100-SXM4-80GB", 312, 19.5),
        ("NVIDIA A10G", 70, 35),
        ("NVIDIA L40S", 362, 91.6),
        ("NVIDIA L4", 121, 30.3),
        ("Tesla T4", 65, 8.1),
    ],
)
def test_names_of_drivers_find_their_rates(name: str, bf16: float, fp32: float) -> None:
    assert rate_by_name(name, half=True) == bf16 * 1e12
    assert rate_by_name(name, half=False) == fp32 * 1e12


@pytest.mark.parametrize("name", ["NVIDIA A1000 Laptop GPU", "NVIDIA GeForce GTX 1080", ""])
def test_others_have_none(name: str) -> None:
    assert rate_by_name(name, half=True) is None


def test_a_step_is_counted_once_and_compared_with_the_peak(monkeypatch) -> None:
    monkeypatch.setattr(utilisation, "peak_rate", lambda device, half: 1e6)
    layer, x = torch.nn.Linear(10, 20, bias=False), torch.randn(3, 10)
    work = Work(torch.device("cpu"), half=False)
    assert work.utilisation(1.0) is None
    with work.counted():
        layer(
            layer.weight.new_ones(3, 10)
        ).sum().backward()  # forward, and the gradient of the weight: 2 x 2 x 3 x 10 x 20
    with work.counted():
        layer(x) + layer(x)
    assert work.flops == 2 * 2 * 3 * 10 * 20
    assert work.utilisation(0.01) == pytest.approx(2400 / 0.01 / 1e6)


def test_where_nothing_can_be_counted_or_compared_there_is_no_number(monkeypatch) -> None:
    compiled = Work(torch.device("cpu"), half=False, countable=False)
    with compiled.counted():
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert compiled.flops is compiled.utilisation(1.0) is None
    unknown = Work(torch.device("cpu"), half=False)
    with unknown.counted():
        torch.ones(2, 2) @ torch.ones(2, 2)
    monkeypatch.setattr(utilisation, "peak_rate", lambda device, half: None)
    assert unknown.utilisation(1.0) is None


def test_a_cpu_is_measured() -> None:
    assert 1e8 < peak_rate(torch.device("cpu"), half=False) < 1e14
