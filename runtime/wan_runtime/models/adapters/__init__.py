"""Files of LoRA adapters and full weights: layouts, names of layers, strength."""
