"""The OpenAI Realtime API, client side."""
