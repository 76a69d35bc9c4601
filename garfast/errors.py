"""Exceptions and warnings of garfast. Each message is one sentence that says what was wrong and what to do."""

from __future__ import annotations


class GarfastError(Exception):
    """Base of every error that garfast raises on purpose; the command line prints its message and exits with 1."""


class ArgumentError(GarfastError, ValueError):
    """An argument has the wrong type, shape, dtype or device."""


class BackendUnavailableError(GarfastError, RuntimeError):
    """An operator backend was asked for by name and cannot run here."""


class SecondDerivativeError(GarfastError, RuntimeError):
    """A second derivative was asked of an operator that has only a first one."""


class ImageFileError(GarfastError):
    """An image file cannot be read or written."""


class ModelFileError(GarfastError):
    """A face model file is missing, truncated or of the wrong kind."""


class WeightsFileError(GarfastError):
    """A network weight file is missing, truncated or does not fit the network."""


class LandmarkError(GarfastError):
    """Landmarks are missing, malformed or of the wrong number."""


class NoFaceError(LandmarkError):
    """No face was found in an image."""


class TrainingError(GarfastError):
    """A training run cannot start or go on: data are missing, a checkpoint does not fit, or a loss is not finite."""


class EvaluationError(GarfastError):
    """A measurement cannot be made: data are missing or do not fit together."""


class ParametersFileError(GarfastError):
    """A fit's params.json is missing, truncated, of the wrong kind or for another model."""


class OutputError(GarfastError):
    """A result cannot be written (no space, no permission, not a folder)."""


class DownloadError(GarfastError):
    """A file cannot be fetched or does not match its checksum."""


class GarfastWarning(UserWarning):
    """Something works, but slower or otherwise than a user may expect."""
