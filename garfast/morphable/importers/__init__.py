"""Importers of published face models."""
