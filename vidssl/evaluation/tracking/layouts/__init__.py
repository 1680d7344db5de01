"""Where sequences to track in come from: the layouts of the public sets, recognised by what lies in them."""

from vidssl.evaluation.tracking.layouts.find import Found, find_sequences

__all__ = ["Found", "find_sequences"]
