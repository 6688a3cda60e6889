"""Recordings of calls: laid down by the clock, written to disk by a thread of their own."""
