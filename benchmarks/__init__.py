"""Benchmarks: pytest-benchmark files per operator, and one suite for a machine with a GPU."""
