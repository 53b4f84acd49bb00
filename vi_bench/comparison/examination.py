"""The costlier part of a comparison: joint distances, co-clustering, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vi_bench.comparison.elpd import Elpd, held_out, psis_loo
from vi_bench.comparison.joint import (
    Discrepancy,
    Joint,
    Yardstick,
    similarity_distance,
)
from vi_bench.comparison.quantities import Quantity
from vi_bench.comparison.sample import Sample
from vi_bench.comparison.side_by_side import each


@dataclass(frozen=True)
class Examination:
    """Results beside the verdicts.

    Attributes:
        joint: label -> distances to the reference in all columns at once.
        columns: names of those columns.
        similarity: label -> distance of the co-clustering matrix to the reference's.
        loo: label -> expected log predictive density by PSIS-LOO; draws of a q are
            treated as posterior draws.
        held_out: label -> log predictive density of held-out rows.
    """

    joint: dict[str, Joint] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    similarity: dict[str, Discrepancy] = field(default_factory=dict)
    loo: dict[str, Elpd] = field(default_factory=dict)
    held_out: dict[str, Elpd] = field(default_factory=dict)


def examine(
    samples: Mapping[str, Sample],
    reference: str,
    scalars: Mapping[str, Mapping[Quantity, np.ndarray]],
    names: tuple[Quantity, ...],
    shift: float,
) -> Examination:
    """Compute joint distances, co-clustering distances and predictive densities.

    Args:
        samples: label -> draws.
        reference: the label that the others are compared with.
        scalars: label -> quantity -> draws: the relabelled parameters, or where
            components have no identity the label-invariant quantities.
        names: quantities that are compared jointly.
        shift: shift of every column, in reference sds, that is tolerated.
    """
    own = samples[reference]
    others = [label for label in samples if label != reference]
    stacked = {label: _stack(s, names) for label, s in scalars.items()}
    yardstick = Yardstick(stacked[reference], shift=shift) if names else None
    similar = {}
    if own.similarity is not None:
        for label in others:
            theirs = samples[label].similarity
            if theirs is not None:
                similar[label] = similarity_distance(theirs, own.similarity)
    joint: dict[str, Joint] = {}
    if yardstick:
        size = max((stacked[label].size for label in others), default=0)
        found = each(lambda label: yardstick.compare(stacked[label]), others, size)
        joint = dict(zip(others, found, strict=True))
    known = {
        label: s.log_likelihood
        for label, s in samples.items()
        if s.log_likelihood is not None
    }
    size = max((values.size for values in known.values()), default=0)
    loo = dict(zip(known, each(psis_loo, known.values(), size), strict=True))
    return Examination(
        joint,
        names,
        similar,
        loo,
        {
            label: held_out(s.held_out)
            for label, s in samples.items()
            if s.held_out is not None
        },
    )


def _stack(
    scalars: Mapping[Quantity, np.ndarray], names: tuple[Quantity, ...]
) -> np.ndarray:
    return np.stack([scalars[n] for n in names], axis=-1) if names else np.empty(0)
