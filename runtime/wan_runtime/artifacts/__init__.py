"""The object store, and sets of files committed to it with checksums."""
