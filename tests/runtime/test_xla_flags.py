"""What XLA is told before JAX starts, and what is said where it came too late."""

import os

import jax
import pytest

from vi_bench.runtime import environment, xla_flags


@pytest.mark.parametrize(
    ("jaxlib", "before", "after"),
    [
        ("0.12.0.1", None, f"{xla_flags.FUSIONS}="),
        ("0.10.2", "--other=1", f"--other=1 {xla_flags.FUSIONS}="),
        ("0.12.0", f"{xla_flags.FUSIONS}=dot", f"{xla_flags.FUSIONS}=dot"),
        ("0.10.1", "--other=1", "--other=1"),
        ("0.13.0", None, None),
    ],
)
def test_an_option_is_set_where_it_is_known_and_not_decided(
    jaxlib, before, after, monkeypatch
):
    monkeypatch.setattr("jaxlib.version.__version__", jaxlib)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if before is not None:
        monkeypatch.setenv("XLA_FLAGS", before)
    xla_flags.avoid_wrong_products()
    assert os.environ.get("XLA_FLAGS") == after


def test_products_are_right_with_what_this_process_was_told():
    assert environment.products_are_right()


def test_a_compiler_whose_products_are_wrong_is_said(monkeypatch):
    monkeypatch.setattr(environment, "products_are_right", lambda: False)
    cpu = jax.devices("cpu")[0]
    with (
        pytest.warns(UserWarning, match="import vi_bench first"),
        environment.computing(cpu, 64),
    ):
        pass
    assert not environment.describe(cpu, 64)["products_are_right"]
