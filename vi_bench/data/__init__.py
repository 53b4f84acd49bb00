"""Rows to infer from: tables, files that are read piece by piece, simulated data."""
