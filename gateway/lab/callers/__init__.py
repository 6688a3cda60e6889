"""Callers without a person, and the gateway as a child process."""
