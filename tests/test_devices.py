"""Devices are found by name, or it is said what there is."""

from __future__ import annotations

import pytest
import torch

from vidssl.devices import find_device
from vidssl.errors import VidsslError


def test_a_device_that_is_there():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["foo", "cuda:99", "", "cpu:x", "meta"])
def test_a_device_that_is_not_there_is_one_line(name):
    with pytest.raises(VidsslError, match=rf"device='{name}': not on this machine.*\(there is: cpu"):
        find_device(name)
