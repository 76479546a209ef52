"""Base models: where their files are, how they are loaded, and the tiny ones made on the spot."""

import sys

# diffsynth imports DeepSpeed wherever it finds it, for a way of its own that no one takes: half a
# second of each process. `training.zero` imports it where it is at work.
sys.modules.setdefault("deepspeed", None)  # type: ignore[arg-type]
