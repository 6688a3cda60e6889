"""Prints pages of the documentation from the tables of the code."""
