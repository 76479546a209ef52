"""What runs inside the workload pods: dataset check, latent cache, training, export."""
