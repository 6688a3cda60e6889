"""Messages of the Realtime API, typed."""
