"""The shell around the machine: one task and one inbox per call, and what is written down of it."""
