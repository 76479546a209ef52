"""The life of a WanInferenceService."""
