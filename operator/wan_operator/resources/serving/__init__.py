"""Children of a WanInferenceService."""
