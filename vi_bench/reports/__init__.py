"""How a run is shown: terminal, page, LaTeX, figures."""
