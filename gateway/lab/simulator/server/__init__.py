"""The server: WebSockets and plain HTTP on one port, who is let in, client secrets."""
