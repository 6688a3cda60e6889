"""The HTTP API, served by a process of its own (``gateway web``)."""
