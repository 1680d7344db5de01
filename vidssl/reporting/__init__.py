"""Runs and results as one page that explains itself: a single HTML file that needs no network."""

from vidssl.reporting.report import write_report

__all__ = ["write_report"]
