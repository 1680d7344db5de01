"""What a model of motion is worth: forecasts, calibration, eigenvalues."""
