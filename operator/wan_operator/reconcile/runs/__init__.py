"""The engine of runs: steps, their attempts, retries, checkpoints, suspension and deadline.

It knows no kind: what a run consists of and what is its own comes from a `Plan`.
"""
