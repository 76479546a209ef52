"""What runs inside the workload pods: dataset check, latent cache, training, export."""

import os

# Before diffsynth or transformers is imported: they would else ask their hubs for what is missing.
os.environ["DIFFSYNTH_SKIP_DOWNLOAD"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
