"""A video from its order: conditions, sampling, decoded frames and media files."""
