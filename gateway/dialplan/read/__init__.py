"""Dialplan files, read and checked: a plan, or every mistake with its line."""
