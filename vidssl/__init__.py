"""Self-supervised learning for video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidssl.version import __version__

if TYPE_CHECKING:
    from vidssl.models.factory import create_model
    from vidssl.models.load import load

__all__ = ["__version__", "create_model", "load"]


def __getattr__(name: str) -> Any:
    """Imports at first use: torch alone takes longer than a command line should need to print its help."""
    if name == "create_model":
        from vidssl.models.factory import create_model

        return create_model
    if name == "load":
        from vidssl.models.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
