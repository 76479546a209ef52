"""Decisions on a WanFineTune."""
