"""Facial landmarks: detectors and files behind one interface."""
