"""Figures and pictures about audio and packets."""
