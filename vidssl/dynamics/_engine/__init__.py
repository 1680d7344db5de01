"""Private: the passes and the algebra behind the filter, the smoother and the forecasts."""
