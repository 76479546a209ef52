"""Renders the queue's videos: a supervisor without torch, and its ranks."""
