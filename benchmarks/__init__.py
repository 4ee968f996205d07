"""Ours beside its peers: `python -m benchmarks --help`."""
