"""Scores of stored predictions, and which differences between them are significant."""
