"""Datasets of clips: reading, checking, splitting, and their latents."""
