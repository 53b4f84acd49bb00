"""Whether an implementation of variational inference is right, whatever its quality."""

from vi_bench.verification.verifier import Quality, Report, verify

__all__ = ["Quality", "Report", "verify"]
