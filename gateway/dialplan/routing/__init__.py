"""Which route takes a call: decided without I/O."""
