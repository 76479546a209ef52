"""Decisions on a WanInferenceService."""
