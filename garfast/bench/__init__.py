"""Measuring the operators on the user's own machine: what `garfast bench` and the files in benchmarks/ share."""
