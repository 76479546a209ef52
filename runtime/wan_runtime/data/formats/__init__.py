"""The formats of datasets: one reader each, all giving the same rows."""
