"""The protocol as a server checks and speaks it; it shares nothing with the client's."""
