"""Inference methods, side by side; the file's name is the method's name."""
