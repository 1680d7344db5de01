"""Which videos there are, what each shows, and which of them can be read."""
