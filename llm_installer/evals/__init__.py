"""Evaluation: base and runs side by side on the same rows, and whether a difference between them is real."""
