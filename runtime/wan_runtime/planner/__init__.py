"""Memory, time and cost of training and serving, before anything runs. Pure Python, no torch.

Everything is calibrated from the rows of `measured.json` and from nothing else. What a profile
costs in quality is in `distances.json`.
"""
