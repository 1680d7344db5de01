"""Self-supervised learning for video."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vidssl.version import __version__

if TYPE_CHECKING:
    from vidssl.models.export import load
    from vidssl.models.factory import create_model

__all__ = ["__version__", "create_model", "load"]

# Imported at first use: torch alone takes longer than a command line should need to print its help.
_LAZY = {"create_model": "vidssl.models.factory", "load": "vidssl.models.export"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
