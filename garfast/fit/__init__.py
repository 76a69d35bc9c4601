"""Fitting a morphable model to photographs."""

from garfast.fit.landmark_config import LandmarkFitConfig
from garfast.fit.landmarks_fit import LandmarkFit, fit_landmarks

__all__ = ["LandmarkFit", "LandmarkFitConfig", "fit_landmarks"]
