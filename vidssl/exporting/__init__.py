"""Taking an encoder away: other formats, each checked against the original, with a card that says what it is."""

from vidssl.exporting.export import export

__all__ = ["export"]
