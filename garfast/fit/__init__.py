"""Fitting a morphable model to photographs."""
