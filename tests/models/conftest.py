"""A tiny architecture that open_clip knows by name, and a hub out of reach."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_clip import TINY_CONFIG


@pytest.fixture
def tiny_name(monkeypatch: pytest.MonkeyPatch) -> str:
    """`ViT-tiny` and its QuickGELU twin as architectures of open_clip."""
    from open_clip import factory

    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny", TINY_CONFIG)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny-quickgelu", TINY_CONFIG | {"quick_gelu": True})
    return "ViT-tiny"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_address(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
