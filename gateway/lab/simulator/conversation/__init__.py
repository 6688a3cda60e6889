"""The conversation of a session: its items, what of it the model reads, the function calls in it."""
