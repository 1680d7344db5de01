"""Self-supervised learning for video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidssl.version import __version__

if TYPE_CHECKING:
    from vidssl.models.factory import create_model
    from vidssl.models.load import load, load_encoder

__all__ = ["__version__", "create_model", "load", "load_encoder"]


def __getattr__(name: str) -> Any:
    """Imports at first use: torch alone takes longer than a command line should need to print its help."""
    if name == "create_model":
        from vidssl.models.factory import create_model

        return create_model
    if name in ("load", "load_encoder"):
        from vidssl.models import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
