"""Speech between the phone (8 kHz) and the model (24 kHz)."""
