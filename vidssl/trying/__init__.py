"""`vidssl try`: a few minutes on one's own videos, from the folder to a report that says whether adaptation helped."""

from vidssl.trying.run import try_folder

__all__ = ["try_folder"]
