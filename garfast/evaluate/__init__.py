"""Measures of fits, detectors and renderers: surfaces in mm, landmarks in % of the face, pictures by FID."""
