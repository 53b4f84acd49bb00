"""What a comparison found beside its verdicts, in lines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vi_bench.comparison import Comparison
from vi_bench.comparison.elpd import Elpd
from vi_bench.comparison.joint import Discrepancy

NAMES = {
    "sliced": "sliced W1",
    "transport": "W1",
    "energy": "energy distance",
    "mmd": "MMD^2",
    "classifier": "classifier",
}


def joint_lines(found: Comparison) -> Iterator[str]:
    """Joint distances with their floors, co-clustering, k-hat, predictions."""
    known = found.examination
    for label, joint in known.joint.items():
        if np.isnan(joint.sliced.value):
            yield f"{label}: too few effective draws for joint distances"
            continue
        told = ", ".join(_say(NAMES[n], getattr(joint, n)) for n in NAMES)
        yield (
            f"{label}, all {len(known.columns) - len(joint.dropped)} quantities at "
            f"once, {joint.used} draws a side ({joint.matched} for W1): {told}"
        )
    for label, distance in known.similarity.items():
        yield f"{label}: {_say('co-clustering, Frobenius norm / N', distance)}"
    for label, importance in found.importance.items():
        yield f"{label}: {importance.sentence}"
    for label, loo in known.loo.items():
        worst = f"worst k-hat {loo.worst_khat:.2f}"
        yield f"{label}: ELPD by PSIS-LOO {_elpd(loo)}, {worst}"
    for label, held in known.held_out.items():
        yield f"{label}: log density of held-out rows {_elpd(held)}"


def _say(name: str, d: Discrepancy) -> str:
    error = "" if d.se is None else f"±{d.se:.2g}"
    chance = "" if d.p_value is None else f", p {d.p_value:.2g}"
    return f"{name} {d.value:.3g}{error} (floor {d.floor:.2g}{chance})"


def _elpd(found: Elpd) -> str:
    total = found.total
    return (
        f"{total.value:.2f}±{total.se:.2f} over {found.points.size} rows "
        f"(Monte-Carlo error {found.mc_error:.2g})"
    )
