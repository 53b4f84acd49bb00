"""What is inferred: one short file per component family."""
