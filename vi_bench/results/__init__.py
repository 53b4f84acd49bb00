"""The stored results of a run: their schema, and how they are written and read."""
