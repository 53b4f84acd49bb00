"""What several programs' draws mean, and what is right for files that others write."""

import json

import numpy as np
import pytest
from arviz_base import from_dict
from typer.testing import CliRunner
from xarray import Dataset, DataTree

import vi_bench as vb
from vi_bench.cli.app import app
from vi_bench.draws.match import match
from vi_bench.draws.posterior import posterior_of

# ------------------------------------------------------------------ a single posterior


def mixture(random, shape=(2, 50), **more):
    mu = random.normal(size=(*shape, 2, 3)) + np.array([[-5.0], [5.0]])
    w = random.dirichlet([3.0, 3.0], size=shape)
    posterior = {"mu": mu, "weight": w, "scale": random.normal(size=shape)}
    return from_dict(
        {
            "posterior": posterior | more,
            "sample_stats": {
                "lp": random.normal(size=shape),
                "log_joint": random.normal(size=shape),
                "diverging": np.arange(np.prod(shape)).reshape(shape) < 10,
            },
        },
        coords={"component": [0, 1], "feature": ["x", "y", "z"]},
        dims={"mu": ["component", "feature"], "weight": ["component"]},
    )


def refused(call, *words):
    """One line, with all of the words."""
    with pytest.raises(vb.InputError) as found:
        call()
    message = str(found.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def matched(*trees, variables=None, rename=None, **options):
    """The trees are a, b, ...; the last one is the reference."""
    labels = "abcdef"[: len(trees)]
    posteriors = [
        posterior_of(tree, label, variables, rename)
        for label, tree in zip(labels, trees, strict=True)
    ]
    return match(posteriors, labels[-1], **options)


def sample_of(tree, **options):
    return matched(tree, tree, **options).samples["a"]


def test_a_tree_becomes_a_sample(random):
    tree = mixture(random)
    found = sample_of(tree)
    assert set(found.columns) == {"mu[x]", "mu[y]", "mu[z]", "weight"}
    assert set(found.shared) == {"scale"}
    posterior = tree["posterior"]
    np.testing.assert_array_equal(found.columns["mu[y]"], posterior["mu"][..., 1])
    np.testing.assert_array_equal(found.columns["weight"], posterior["weight"])
    np.testing.assert_array_equal(found.log_joint, tree["sample_stats"]["log_joint"])
    assert found.divergent == 0.1
    some = sample_of(tree, variables=["mu"])
    assert set(some.columns) | set(some.shared) == {"mu[x]", "mu[y]", "mu[z]"}


def test_the_components_axis_may_stand_anywhere_and_have_several_names(random):
    tree = mixture(random)
    turned = tree["posterior"].to_dataset().transpose("feature", "component", ...)
    again = sample_of(DataTree.from_dict({"posterior": turned}))
    for label, draws in sample_of(tree).columns.items():
        np.testing.assert_array_equal(again.columns[label], draws)
    assert again.log_joint is None
    assert again.divergent == 0
    both = matched(DataTree.from_dict({"posterior": turned}), tree)
    np.testing.assert_array_equal(
        both.samples["a"].columns["mu[y]"], both.samples["b"].columns["mu[y]"]
    )
    named = from_dict(
        {
            "posterior": {
                "mu": random.normal(size=(2, 5, 2)),
                "pi": random.dirichlet([1, 1], size=(2, 5)),
                "z": np.ones((2, 5, 7), int),
            }
        }
    )
    found = sample_of(named, component_dim=("mu_dim_0", "pi_dim_0"), weight="pi")
    assert set(found.columns) == {"mu", "weight"}
    assert not found.shared
    found = sample_of(named)  # found by what sums to 1
    assert set(found.columns) == {"mu", "weight"}
    assert set(sample_of(named, component_dim=["none"]).shared) == {
        *("mu[0]", "mu[1]", "pi[0]", "pi[1]")
    }
    whole = sample_of(named, component_dim=["mu_dim_0"], variables=["mu", "z"])
    assert not whole.shared  # z is the same in every draw


def test_lp_is_not_taken_for_the_log_joint(random):
    tree = mixture(random)
    del tree["sample_stats"]["log_joint"]
    assert sample_of(tree).log_joint is None


def test_draws_of_one_chain_may_lack_the_chain(random):
    tree = mixture(random)
    one = {
        name: tree[name].to_dataset().isel(chain=0, drop=True)
        for name in ("posterior", "sample_stats")
    }
    found = sample_of(DataTree.from_dict(one))
    whole = sample_of(tree)
    np.testing.assert_array_equal(found.columns["mu[x]"], whole.columns["mu[x]"][:1])
    np.testing.assert_array_equal(found.log_joint, whole.log_joint[:1])
    stacked = tree["posterior"].to_dataset().stack(sample=["chain", "draw"])
    flat = DataTree.from_dict({"posterior": stacked.reset_index("sample")})
    refused(lambda: sample_of(flat), "sample", "expected chain and draw")


def test_trees_that_cannot_be_compared_are_refused(random):
    tree = mixture(random)
    refused(lambda: sample_of(DataTree()), "a: no posterior group")
    refused(
        lambda: sample_of(tree, component_dim=["k"]),
        "dimension 'k'",
        "component, feature",
    )
    refused(lambda: sample_of(tree, variables=["mv"]), "'mv'", "did you mean 'mu'")
    refused(lambda: sample_of(tree, weight="wieght"), "did you mean 'weight'")
    refused(lambda: sample_of(tree, weight="scale"), "both 'scale' and 'weight'")
    refused(
        lambda: sample_of(tree, component_dim=["component", "feature"]),
        "'mu' has several dimensions of components",
    )
    broken = mixture(random)
    broken["posterior"]["mu"][1, 7, 0, 0] = np.nan
    refused(lambda: sample_of(broken), "a: 'mu' is not finite in chain 1, draw 7")
    broken = mixture(random)
    broken["sample_stats"]["log_joint"][0, 3] = np.inf
    refused(lambda: sample_of(broken), "'log_joint' is not finite in chain 0, draw 3")
    broken = mixture(random)
    broken["sample_stats"] = DataTree(
        broken["sample_stats"].to_dataset().isel(draw=slice(5))
    )
    refused(lambda: sample_of(broken), "(2, 5)", "(2, 50)")
    broken = mixture(random)
    broken["posterior"]["weight"] = 2 * broken["posterior"]["weight"]
    refused(lambda: sample_of(broken), "must sum to 1")
    vector = from_dict(
        {
            "posterior": {
                "mu": random.normal(size=(2, 5, 2)),
                "pi": random.normal(size=(2, 5)),
            }
        }
    )
    refused(
        lambda: sample_of(vector, component_dim=["mu_dim_0"], weight="pi"),
        "one dimension, of the components",
    )
    uneven = from_dict(
        {
            "posterior": {
                "a": random.normal(size=(2, 5, 2)),
                "b": random.normal(size=(2, 5, 3)),
            }
        }
    )
    refused(
        lambda: sample_of(uneven, component_dim=["a_dim_0", "b_dim_0"]),
        "'a' 2, 'b' 3",
    )
    words = tree["posterior"].to_dataset()
    words["t"] = (("chain", "draw"), np.full((2, 50), "x"))
    words = DataTree.from_dict({"posterior": words})
    refused(lambda: sample_of(words, variables=["mu", "t"]), "'t' holds <U1")
    only = from_dict({"posterior": {"z": random.integers(2, size=(2, 50))}})
    refused(lambda: sample_of(only), "nothing can be compared: z of a (whole numbers)")


# ------------------------------------------------------------------- several posteriors


def tree_of(dims=None, coords=None, **arrays):
    return from_dict({"posterior": arrays}, dims=dims or {}, coords=coords or {})


def test_numbers_that_only_count_are_matched_by_their_order(random):
    x = random.normal(size=(2, 50, 3))
    of_one = tree_of(beta=x, coords={"beta_dim_0": [1, 2, 3]})
    of_zero = tree_of(beta=x)
    found = matched(of_one, of_zero)
    assert list(found.samples["a"].shared) == ["beta[0]", "beta[1]", "beta[2]"]
    assert found.notes == ["a counts from 1, b from 0: matched by their order"]
    named = tree_of(dims={"beta": ["k"]}, coords={"k": ["u", "v", "w"]}, beta=x)
    found = matched(of_one, named)
    assert list(found.samples["a"].shared) == ["beta[u]", "beta[v]", "beta[w]"]
    assert "matched by their order: 1, 2, 3 in a, u, v, w in b" in found.notes[0]


def test_names_are_matched_by_name(random):
    x = random.normal(size=(2, 50, 3))
    ours = tree_of(dims={"b": ["k"]}, coords={"k": ["u", "v", "w"]}, b=x)
    turned = tree_of(
        dims={"b": ["k"]}, coords={"k": ["w", "q", "u"]}, b=x[..., [2, 1, 0]]
    )
    found = matched(turned, ours)
    assert list(found.samples["a"].shared) == ["b[u]", "b[w]"]
    for name, draws in found.samples["a"].shared.items():
        np.testing.assert_array_equal(draws, found.samples["b"].shared[name])
    assert found.notes == ["not in every posterior, so not compared: b[q], b[v]"]


def test_shapes_that_do_not_fit_are_left_out_and_said(random):
    a = tree_of(b=random.normal(size=(2, 50, 3)), c=random.normal(size=(2, 50)))
    b = tree_of(b=random.normal(size=(2, 50, 2)), c=random.normal(size=(2, 50)))
    found = matched(a, b)
    assert list(found.samples["a"].shared) == ["c"]
    assert found.notes == [
        "not compared: b has different numbers of elements: 3 in a, 2 in b"
    ]
    b = tree_of(b=random.normal(size=(2, 50, 3, 1)), c=random.normal(size=(2, 50)))
    assert matched(a, b).notes == ["not compared: b has 1 dimensions in a, 2 in b"]


def test_another_number_of_components_is_refused(random):
    two, three = (
        tree_of(dims={"mu": ["component"]}, mu=random.normal(size=(2, 5, k)))
        for k in (2, 3)
    )
    refused(
        lambda: matched(two, three),
        "'mu' is of 2 components in a and of 3 components in b",
    )


def test_names_are_given_anew(random):
    x = random.normal(size=(2, 50))
    a, b = tree_of(theta=x, tau=x + 1), tree_of(mu=x, tau=x + 1)
    refused(
        lambda: matched(tree_of(theta=x), tree_of(mu=x)),
        *("no variable is in all of the draws", "a: theta", "b: mu", "--rename"),
    )
    assert set(matched(a, b, rename={"theta": "mu"}).samples["a"].shared) == {
        *("mu", "tau")
    }
    refused(
        lambda: matched(a, b, rename={"theta": "tau"}),
        "a: 'theta' cannot be renamed to 'tau', which is there already",
    )
    refused(
        lambda: vb.compare({"a": a, "b": b}, "b", rename={"teta": "mu"}),
        "did you mean 'theta'",
    )


def test_components_that_could_be_two_dimensions_are_asked_for(random):
    square = tree_of(
        mu=random.normal(size=(2, 50, 2, 2)), w=random.dirichlet([1, 1], size=(2, 50))
    )
    refused(
        lambda: matched(square, square),
        *("w sums to 1", "w_dim_0", "of mu either mu_dim_0 or mu_dim_1"),
        *("--component-dim once for each", "--component-dim none"),
    )
    found = matched(square, square, component_dim=["w_dim_0", "mu_dim_0"])
    assert set(found.samples["a"].columns) == {"mu[0]", "mu[1]", "weight"}
    several = tree_of(
        start=random.dirichlet([1, 1], size=(2, 50)),
        topics=random.dirichlet([1, 1, 1], size=(2, 50)),
    )
    found = matched(several, several)
    assert not found.samples["a"].columns
    assert "several variables sum to 1, start (2 elements)" in found.notes[0]
    refused(
        lambda: matched(several, several, weight="start"),
        "the weights 'start' must sum to 1 over components",
    )
    shares = tree_of(
        share=random.dirichlet([1, 1, 1], size=(2, 50)), b=random.normal(size=(2, 50))
    )
    assert not matched(shares, shares).samples["a"].columns


def test_coordinates_are_matched_by_value_where_they_are_the_same(random):
    x = random.normal(size=(2, 50, 3))
    ours = tree_of(dims={"b": ["k"]}, coords={"k": [0, 1, 2]}, b=x)
    turned = tree_of(dims={"b": ["k"]}, coords={"k": [2.0, 1.0, 0.0]}, b=x[..., ::-1])
    found = matched(turned, ours)
    for name, draws in found.samples["a"].shared.items():
        np.testing.assert_array_equal(draws, found.samples["b"].shared[name])
    other = tree_of(dims={"b": ["k"]}, coords={"k": ["u", "v", "w"]}, b=x, c=x[..., 0])
    named = tree_of(dims={"b": ["k"]}, coords={"k": ["x", "y", "z"]}, b=x, c=x[..., 0])
    assert matched(other, named).notes == [
        "not compared: coordinates of b have nothing in common: u, v, w in a; x, y, z "
        "in b"
    ]
    twice = tree_of(dims={"b": ["k"]}, coords={"k": ["u", "u", "w"]}, b=x)
    refused(lambda: matched(twice, other), "a: coordinate 'u' of 'b' occurs twice")


def test_dimensions_of_other_names_are_matched_by_order_and_that_is_said(random):
    x = random.normal(size=(2, 50, 3, 3))
    a = tree_of(dims={"b": ["j", "w"]}, b=x)
    b = tree_of(dims={"b": ["i", "j"]}, b=x)
    assert "matched by their order: j, w in a, i, j in b" in matched(a, b).notes[0]


def test_what_has_names_is_not_taken_for_exchangeable(random):
    names = ["apple", "pear", "fig"]
    tree = tree_of(
        dims={"share": ["fruit"], "b": ["fruit"]},
        coords={"fruit": names},
        share=random.dirichlet([3, 2, 1], size=(2, 50)),
        b=random.normal(size=(2, 50, 3)),
    )
    assert not matched(tree, tree).samples["a"].columns
    assert matched(tree, tree, component_dim=["fruit"]).samples["a"].columns


def test_a_dimension_that_is_misspelt_or_left_out_is_told(random):
    tree = own_dims(1, 1)
    tree = DataTree.from_dict({"posterior": tree})
    refused(
        lambda: matched(tree, tree, component_dim=["mu_dim_0", "sigma_dim_O"]),
        "unknown dimension 'sigma_dim_O'",
        "did you mean 'sigma_dim_0'",
    )
    refused(
        lambda: matched(tree, tree, component_dim=["none", "mu_dim_0"]),
        "'none' and a dimension",
    )
    said = matched(tree, tree, component_dim=["mu_dim_0", "w_dim_0"]).notes[0]
    assert "not relabelled, though there are as many elements" in said
    assert "sigma along sigma_dim_0" in said


def test_constants_of_single_precision_and_of_any_type(random):
    x = random.normal(size=(2, 400))
    one = np.float32(0.1) * (1 + np.float32(6e-8) * random.integers(2, size=(2, 400)))
    single = tree_of(x=x, c=one.astype(np.float32))
    double = tree_of(x=x, c=np.full((2, 400), 0.1))
    assert matched(single, double).notes == [
        "not compared: c is the same in every draw"
    ]
    whole, other = (tree_of(x=x, c=np.full((2, 400), n)) for n in (1, 2))
    found = vb.compare({"a": whole, "b": other}, "b")
    assert found.verdicts["a"].word == "differs"
    huge = tree_of(x=x, pop=1e17 + 1e15 * random.normal(size=(2, 400)))
    assert "pop" in matched(huge, huge).samples["a"].shared


def test_dependence_is_seen_without_components(random):
    """|y| = |x| on one side, independent on the other; no correlation on either."""
    x, y, z = random.normal(size=(3, 4, 2500))
    mine = {"x": x, "y": x * np.where(random.random((4, 2500)) < 0.5, 1, -1)}
    found = vb.compare({"a": mine, "b": {"x": y, "y": z}}, "b")
    assert found.verdicts["a"].word == "agrees in marginals"
    assert set(found.examination.columns) == {"x", "y"}


def test_what_cannot_be_draws_is_refused(random):
    x = {"x": random.normal(size=(2, 50))}
    refused(lambda: vb.compare([1, 2], "b"), "a list; expected a mapping")
    refused(
        lambda: vb.compare({"a": {"x": [[1.0], [1.0, 2.0]]}, "b": x}, "b"),
        "a: 'x' has chains of different lengths",
    )
    refused(lambda: vb.compare({"a": {"x": np.ones((2, 0))}, "b": x}, "b"), "0 draws")
    for name in ("", "chain"):
        refused(
            lambda name=name: vb.compare({"a": x, "b": x}, "b", rename={"x": name}),
            "is no name for a variable",
        )
    y = {"x": 5 + x["x"], "y": x["x"]}
    swapped = {"y": 5 + x["x"], "x": x["x"]}
    tree = matched(tree_of(**swapped), tree_of(**y), rename=None)
    assert list(tree.samples["a"].shared) == ["x", "y"]
    turned = posterior_of(tree_of(**swapped), "a", None, {"x": "y", "y": "x"})
    np.testing.assert_array_equal(turned.variables["x"], y["x"])


# -------------------------------------------- files as other programs lay them out


C = ("component",)


def draws(seed, chains=4, n=1000, switch=True):
    """mu (chain, draw, 2, 2), sd and w (chain, draw, 2); labels switch at random."""
    random = np.random.default_rng(seed)
    mu = random.normal([[-2.0, 1.0], [3.0, -1.0]], [0.1, 0.2], (chains, n, 2, 2))
    sd = np.array([1.0, 2.0]) * np.exp(0.05 * random.normal(size=(chains, n, 2)))
    w = random.beta(30, 70, size=(chains, n))
    w = np.stack([w, 1 - w], axis=-1)
    if switch:
        flip = random.random((chains, n)) < 0.5
        for values in (mu, sd, w):
            values[flip] = values[flip][:, ::-1]
    return mu, sd, w


def dataset(**variables):
    return Dataset(
        {k: (("chain", "draw", *dims), v) for k, (v, dims) in variables.items()}
    )


def base(seed, **options):
    mu, sd, w = draws(seed, **options)
    return dataset(mu=(mu[..., 0], C), sigma=(sd, C), weight=(w, C))


def judged(mine, reference, **options):
    """The verdict on mine, and the note."""
    found = vb.compare({"mine": mine, "ref": reference}, "ref", **options)
    return found.verdicts["mine"], found.note


@pytest.fixture(scope="module")
def reference():
    return base(1)


def own_dims(seed, turn):
    mu, sd, w = draws(seed, switch=False)
    return dataset(
        mu=(mu[..., ::turn, 0], ("mu_dim_0",)),
        sigma=(sd[..., ::turn], ("sigma_dim_0",)),
        w=(w[..., ::turn], ("w_dim_0",)),
    )


def test_components_of_dimensions_of_their_own_are_found_and_said():
    word, note = judged(own_dims(1, 1), own_dims(2, -1))
    assert word.word == "agrees"
    assert "mu_dim_0, sigma_dim_0, w_dim_0 are taken for the dimensions of 2" in note
    named = [f"{name}_dim_0" for name in ("mu", "sigma", "w")]
    word, note = judged(own_dims(1, 1), own_dims(2, -1), component_dim=named)
    assert (word.word, note) == ("agrees", "")


def test_labels_that_differ_never_pass_for_a_difference_without_a_warning():
    one, other = own_dims(1, 1).drop_vars("w"), own_dims(2, -1).drop_vars("w")
    word, note = judged(one, other)
    assert word.word == "differs"
    assert "labels of components may differ" in note
    assert "give --component-dim mu_dim_0 --component-dim sigma_dim_0" in note
    word, note = judged(one, other, component_dim=["mu_dim_0", "sigma_dim_0"])
    assert word.word == "agrees"


def test_features_counted_from_one_and_from_nought(tmp_path):
    mu, *_ = draws(1)
    chains = [
        {
            f"mu[{k + 1},{f + 1}]": mu[c, :, k, f].tolist()
            for k in range(2)
            for f in range(2)
        }
        for c in range(4)
    ]
    (tmp_path / "one.json").write_text(json.dumps(chains))
    mu, *_ = draws(2)
    other = dataset(mu=(mu, ("mu_dim_0", "mu_dim_1")))
    numbered = other.assign_coords(mu_dim_0=[0, 1], mu_dim_1=[0, 1])
    for theirs in (other, numbered):
        word, note = judged(tmp_path / "one.json", theirs, component_dim="mu_dim_0")
        assert word.word == "agrees"
        assert "mine counts from 1, ref from 0" in note


def test_what_is_held_fixed_at_another_value_differs(random):
    fixed, two, free = (
        base(seed).assign(noise=(("chain", "draw"), noise))
        for seed, noise in (
            (21, np.ones((4, 1000))),
            (22, np.full((4, 1000), 2.0)),
            (23, 2 + 0.05 * random.normal(size=(4, 1000))),
        )
    )
    for mine, theirs in ((two, fixed), (free, fixed), (two, free)):
        word, _ = judged(mine, theirs)
        assert word.word == "differs"
        assert "noise" in word.reason


def test_assignments_are_left_out_and_that_is_said(random):
    trees = []
    for seed, turn in ((11, 1), (12, -1)):
        mu, sd, w = draws(seed, n=2000, switch=False)
        z = np.broadcast_to(np.arange(60.0) % 2, (4, 2000, 60)).copy()
        z[..., :6] = random.random((4, 2000, 6)) < 0.3
        trees.append(
            dataset(
                mu=(mu[..., ::turn, 0], C),
                sigma=(sd[..., ::turn], C),
                weight=(w[..., ::turn], C),
                z=(z if turn == 1 else 1 - z, ("row",)),
            )
        )
    word, note = judged(*trees)
    assert word.word == "agrees"
    assert "z of mine (whole numbers), z of ref (whole numbers)" in note


def with_nan(random):
    extra = random.normal(size=(4, 1000, 2))
    extra[..., 1] = np.nan
    return base(2).assign(L=(("chain", "draw", "i"), extra))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda r: base(3).assign(hyper=("draw", r.normal(size=1000))),
            "hyper of mine (without a dimension of chains)",
        ),
        (lambda r: base(3).assign(N=272.0), "N of mine (not drawn)"),
        (with_nan, "not in every posterior, so not compared: L (of mine)"),
        (
            lambda r: base(3).assign(c=(("chain", "draw"), np.full((4, 1000), 0.5))),
            "c (of mine)",
        ),
    ],
    ids=["no chain", "datum", "nan", "constant"],
)
def test_what_cannot_be_compared_is_left_out_and_named(change, said, random, reference):
    word, note = judged(change(random), reference)
    assert word.word == "agrees"
    assert said in note


def test_a_constant_that_all_have_is_said(random):
    known = {"c": (("chain", "draw"), np.full((4, 1000), 0.5))}
    word, note = judged(base(3).assign(known), base(1).assign(known))
    assert word.word == "agrees"
    assert note == "not compared: c is the same in every draw"


@pytest.mark.slow
def test_walkers_of_an_ensemble_and_axes_that_were_exchanged(reference):
    word, _ = judged(base(11, chains=200, n=100), reference)
    assert word.word == "agrees"
    refused(
        lambda: judged(base(12, chains=1000, n=4), reference),
        "mine: 1000 chains of 4 draws",
        "exchange the dimensions",
    )


@pytest.mark.parametrize(("chains", "n"), [(1, 1), (4, 3)])
def test_few_draws_never_differ(chains, n, reference):
    word, _ = judged(base(13, chains=chains, n=n), reference)
    assert word.word == "inconclusive"
    assert "too few" in word.reason


def regression(seed, **more):
    random = np.random.default_rng(seed)
    beta = [1.0, -2.0, 0.5] + 0.1 * random.normal(size=(4, 1000, 3))
    tau = 2 * np.exp(0.1 * random.normal(size=(4, 1000)))
    return dataset(beta=(beta, ("predictor",)), tau=(tau, ()))


def test_a_posterior_without_components_is_judged_as_it_is():
    found = vb.compare({"a": regression(31), "b": regression(32)}, "b")
    assert found.verdicts["a"].word == "agrees"
    assert set(found.judged) == {"beta[0]", "beta[1]", "beta[2]", "tau"}
    assert found.note == ""
    assert found.relabellings["a"].moved == 0
    moved = regression(31)
    moved["beta"] += 0.05
    assert vb.compare({"a": moved, "b": regression(32)}, "b").verdicts["a"].word == (
        "differs"
    )


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        (lambda t: t**-2.0, "1/sqrt(tau) has the quartiles"),
        (lambda t: 1 / t, "1/tau has the quartiles"),
        (np.log, "exp(tau) has the quartiles"),
    ],
)
def test_another_form_of_a_parameter_is_named_as_a_likely_cause(turn, said):
    mine = regression(31)
    mine["tau"] = turn(mine["tau"])
    word, note = judged(mine, regression(32))
    assert word.word == "differs"
    assert f"tau of mine is likely another form of the parameter: {said}" in note


def test_the_command_line_takes_names_and_dimensions(tmp_path):
    one, other = own_dims(1, 1).rename_vars(mu="centre"), own_dims(2, -1)
    paths = []
    for name, values in (("a", one), ("b", other)):
        tree = DataTree.from_dict({"posterior": values})
        tree.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
        paths.append(str(tmp_path / f"{name}.nc"))
    options = ["--reference", "b", "--rename", "centre=mu"]
    for dim in ("mu_dim_0", "sigma_dim_0", "w_dim_0"):
        options += ["--component-dim", dim]
    done = CliRunner().invoke(app, ["compare", *paths, *options])
    assert done.exit_code == 0, done.output
    assert "a: agrees" in done.output
    assert "mu of component 0" not in done.output.split("judged")[1]
    bad = CliRunner().invoke(
        app, ["compare", *paths, "--reference", "b", "--rename", "x"]
    )
    assert bad.exit_code == 2
    assert "--rename 'x': expected THEIRS=OURS" in bad.output
