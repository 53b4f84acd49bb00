"""Presentations of a run: terminal, HTML page, LaTeX, table files, figures."""
