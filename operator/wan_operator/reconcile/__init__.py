"""Decisions: (resource, observed) -> what should be. Pure: no I/O, no clock of its own."""
