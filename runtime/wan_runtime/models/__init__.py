"""Base models: where their files are, how they are loaded, and the tiny ones made on the spot."""

import os

# Before diffsynth or transformers is imported: they would else ask their hubs for what is missing.
os.environ["DIFFSYNTH_SKIP_DOWNLOAD"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
