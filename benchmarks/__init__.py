"""Ratios that the bench promises, measured side by side: `python -m benchmarks`."""
