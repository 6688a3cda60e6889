"""The OpenAI Realtime API over a WebSocket, client side."""
