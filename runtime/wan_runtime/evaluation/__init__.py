"""Evaluation: clips scored, and candidates compared."""
