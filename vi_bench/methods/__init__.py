"""Inference methods, one in each file, which bears the method's name."""
