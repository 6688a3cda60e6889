"""Calls at the library: their dialogs, their audio, and the accounts through which they come in."""
