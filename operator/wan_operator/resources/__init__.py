"""Builders of child manifests. Pure."""
