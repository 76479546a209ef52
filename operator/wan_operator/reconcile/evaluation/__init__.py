"""Decisions on a WanEvaluation."""
