"""The transformer: its forward pass, attention, LoRA branches, and its split over ranks."""
