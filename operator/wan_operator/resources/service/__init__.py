"""Manifests of a WanInferenceService."""
