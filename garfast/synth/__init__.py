"""Synthetic photographs with known geometry."""
