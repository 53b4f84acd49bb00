"""Colours and marks that figures share."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, distinct to colour-blind eyes."""

DASHES = ("-", "--", ":", "-.")

MARKERS = {
    "labels in q": (COLOURS[0], "o"),
    "labels summed out": (COLOURS[1], "s"),
    "symmetrised": (COLOURS[2], "^"),
    "importance weighted": (COLOURS[3], "D"),
    "log p(X)": ("black", "|"),
}
"""Rungs of the evidence ladder: colour and marker."""
