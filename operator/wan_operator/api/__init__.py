"""Versions of the API. Pydantic models here are the only source of the CRDs."""
