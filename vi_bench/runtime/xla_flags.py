"""What XLA is told before JAX starts."""

from __future__ import annotations

import os

FUSIONS = "--xla_cpu_experimental_ynn_fusion_type"

WRONG = ((0, 10, 2), (0, 13))
"""Versions of jaxlib, from and up to, whose CPU programs those fusions make wrong. An
option that a version does not know would end the process: others are left alone."""


def avoid_wrong_products() -> None:
    """Have XLA leave out YNNPACK's fusions on CPUs: some products come wrong of them.

    A batch of matrix products with a broadcast number, multiplied and summed, is off by
    as much as its own size (seen in jaxlib 0.12.0: `environment.products_are_right`);
    and the pass is slower with them. It takes effect where JAX has not computed
    anything yet; XLA_FLAGS that name the option are left to decide.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    try:
        from jaxlib.version import __version__ as version  # loads nothing of XLA
    except ImportError:
        return
    numbers = tuple(int(n) for n in version.split(".")[:3] if n.isdigit())
    if FUSIONS not in flags and WRONG[0] <= numbers < WRONG[1]:
        os.environ["XLA_FLAGS"] = f"{flags} {FUSIONS}=".strip()
