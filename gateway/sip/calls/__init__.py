"""Dialogs, their audio, and the accounts they come in through."""
