"""How a session of the Realtime API is opened: address, keys, configuration."""
