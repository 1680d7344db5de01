"""The command line: parses, calls and prints."""

from vidssl.cli.app import main

__all__ = ["main"]
