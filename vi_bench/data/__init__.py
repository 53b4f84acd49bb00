"""Data: tables of rows in memory, files read piece by piece, simulated rows."""
