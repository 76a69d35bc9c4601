"""Morphable face models, cameras and rotations."""
