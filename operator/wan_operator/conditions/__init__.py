"""Conditions of each kind: types, reasons and the builder."""
