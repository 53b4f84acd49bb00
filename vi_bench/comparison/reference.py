"""Comparison with a reference that a second sampler checks."""

from __future__ import annotations

from collections.abc import Mapping

from vi_bench.comparison.comparison import Comparison, ModeEvidence, compare
from vi_bench.comparison.coverage import Coverage
from vi_bench.comparison.sample import Sample
from vi_bench.comparison.verdict import Margin, Verdict


def compare_checked(
    samples: Mapping[str, Sample],
    reference: str,
    check: str,
    margin: Margin | None = None,
    mode_evidence: ModeEvidence | None = None,
    coverage: Coverage | None = None,
) -> Comparison:
    """Compare with a reference, or with its check where the reference is unreliable.

    Where both are reliable and the check differs from the reference, one of them is
    wrong and nothing is judged.

    Args:
        samples: label -> draws.
        reference: label of the reference.
        check: label of a sampler that shares as little with it as possible.
        margin: the equivalence margins.
        mode_evidence: see `compare`.
        coverage: see `compare`.
    """
    found = compare(samples, reference, margin, mode_evidence, coverage)
    if check not in samples:
        return found.noted(f"no {check} to check the reference {reference} against")
    word = found.verdicts[check]
    if word.word in ("agrees", "agrees in marginals"):
        return found.noted(f"{check} agrees with the reference {reference}")
    if word.word in ("inconclusive", "at the margin"):
        why = f"whether {check} agrees with the reference {reference} is open"
        return found.noted(f"{why}: {word.reason}")
    other = compare(samples, check, margin, mode_evidence, coverage)
    reliable = other.verdicts[reference].word != "reference unreliable"
    if word.word == "reference unreliable":
        if not reliable:
            return found
        why = f"{reference} failed the reference diagnostics ({word.reason})"
        return other.noted(f"{why}; {check} is used instead")
    if not reliable:
        unfit = other.verdicts[reference].reason
        return found.noted(f"{check} could not check {reference}: {unfit}")
    doubt = Verdict(
        "reference unreliable", f"{check} differs from {reference}: {word.reason}"
    )
    return found.saying(verdicts=dict.fromkeys(found.verdicts, doubt), doubted=True)
