"""Training from the latent cache, export of what was trained, and sample videos."""
