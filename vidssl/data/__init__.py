"""Videos to views: the only room that touches video files."""
