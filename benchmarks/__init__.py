"""Benchmarks: ratios taken side by side on the same data. `python -m benchmarks --help`."""
