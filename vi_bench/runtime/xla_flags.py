"""Options of XLA that must be set before JAX computes anything."""

from __future__ import annotations

import os

FUSIONS = "--xla_cpu_experimental_ynn_fusion_type"

WRONG = ((0, 10, 2), (0, 13))
"""Versions of jaxlib, from the first up to but not including the second, whose CPU
programs are wrong with those fusions. Other versions are left alone: an option that
XLA does not know ends the process."""


def avoid_wrong_products() -> None:
    """Turn off XLA's YNNPACK fusions on CPUs, which give some wrong products.

    A batch of products with a matrix broadcast from one number, multiplied and summed,
    is off by as much as its own size (jaxlib 0.12.0, `environment.products_are_right`);
    the mixture's pass is also slower with them. This has an effect only before JAX
    computes anything; XLA_FLAGS that name the option are left as they are.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    try:
        from jaxlib.version import __version__ as version  # loads nothing of XLA
    except ImportError:
        return
    numbers = tuple(int(n) for n in version.split(".")[:3] if n.isdigit())
    if FUSIONS not in flags and WRONG[0] <= numbers < WRONG[1]:
        os.environ["XLA_FLAGS"] = f"{flags} {FUSIONS}=".strip()
