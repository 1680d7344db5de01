"""The geometry of features without labels: rank, alignment, uniformity, spectrum, likeness of layers and encoders, drift in training."""
