"""Renders the queue's videos: a supervisor without torch, and the ranks of one gang."""
