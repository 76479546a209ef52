"""What the operator and the pods agree on: job files, service files, results, reports. No torch."""
