"""Base models: where their files are, how they are loaded, and the tiny ones made on the spot."""
