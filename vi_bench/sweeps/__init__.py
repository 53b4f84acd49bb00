"""Sweeps: grids of runs, and the folder that stores every finished one durably."""
