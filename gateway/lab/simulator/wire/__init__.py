"""The protocol as a server checks it."""
