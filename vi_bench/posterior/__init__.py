"""Posteriors of models that are not this package's mixtures."""
