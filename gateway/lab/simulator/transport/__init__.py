"""Connections to the simulator: WebSocket and HTTP, and who is let in."""
