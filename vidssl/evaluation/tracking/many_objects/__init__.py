"""Many objects whose places are given in every frame: which of them are the same."""
