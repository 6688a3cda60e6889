"""One session: its client events in, server events out; the caller's turns."""
