"""Networks from other libraries behind the encoder interface."""
