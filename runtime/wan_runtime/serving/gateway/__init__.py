"""The HTTP API in front of the queue: no torch, no GPU."""
