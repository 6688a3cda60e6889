"""One session: its configuration, conversation, and the caller's turns."""
