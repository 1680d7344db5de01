"""State-space models over sequences of features: linear-Gaussian inference, and modules that learn such models."""
