"""The seed axis: a seed's numbers are its own, whatever runs beside it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_theory.ensemble import run_seeds, seed_key, stream
from sublim_theory.protocols import SublimError


def draw(seed, scale):
    key = seed_key(seed)
    return {"normal": scale * jax.random.normal(stream(key, "noise"), (3,)), "seed": seed}


class MemoryStore(dict):
    def get(self, seeds):
        return super().get(tuple(seeds))

    def put(self, seeds, arrays):
        self[tuple(seeds)] = arrays


@pytest.fixture(scope="module")
def alone():
    """Each seed run on its own: what every other arrangement must give."""
    return {seed: run_seeds(draw, [seed], jnp.float32(2)).arrays["normal"][0] for seed in range(5)}


@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("seeds", [[0, 1, 2, 3, 4], [3, 0], [4]])
def test_a_seed_is_independent_of_its_company(alone, vectorize, chunk_size, seeds):
    arrays = run_seeds(draw, seeds, jnp.float32(2), vectorize=vectorize, chunk_size=chunk_size).arrays
    assert arrays["seed"].tolist() == seeds
    np.testing.assert_array_equal(arrays["normal"], [alone[seed] for seed in seeds])


def test_different_seeds_and_streams_differ(alone):
    assert len({tuple(values) for values in alone.values()}) == 5
    first, second = (jax.random.key_data(stream(seed_key(0), name)).tolist() for name in ("init", "noise"))
    assert first != second


def test_keys_do_not_depend_on_the_default_generator():
    expected = jax.random.key_data(seed_key(7)).tolist()
    with jax.default_prng_impl("rbg"):
        assert jax.random.key_data(seed_key(7)).tolist() == expected


@pytest.mark.parametrize("vectorize", [False, True])
def test_all_chunks_share_one_compilation(vectorize):
    traces = []

    def run_seed(seed):
        traces.append(seed)
        return {"seed": seed}

    arrays = run_seeds(run_seed, range(7), vectorize=vectorize, chunk_size=3).arrays  # the last chunk is short
    assert len(traces) == 1
    assert arrays["seed"].tolist() == list(range(7))


def test_finished_chunks_are_taken_from_the_store_and_only_those():
    store = MemoryStore()
    run_seeds(draw, [0, 1, 2, 3], jnp.float32(1), chunk_size=2, store=store)
    assert list(store) == [(0, 1), (2, 3)]
    store[0, 1] = {"normal": np.full((2, 3), 7.0), "seed": np.array([0, 1])}
    again = run_seeds(draw, [0, 1, 2, 3, 4, 5], jnp.float32(1), chunk_size=2, store=store)
    assert (again.arrays["normal"][:2] == 7).all()
    assert again.resumed == 4
    assert list(store) == [(0, 1), (2, 3), (4, 5)]
    assert again.compile_seconds > 0
    complete = run_seeds(draw, [0, 1, 2, 3], jnp.float32(1), chunk_size=2, store=store)
    assert (complete.resumed, complete.compile_seconds, complete.run_seconds) == (4, 0, 0)


@pytest.mark.parametrize("vectorize", [False, True])
def test_seeds_are_saved_one_by_one_however_many_run_together(vectorize):
    store = MemoryStore()
    run_seeds(draw, [0, 1, 2], jnp.float32(1), vectorize=vectorize, store=store)
    assert list(store) == [(0,), (1,), (2,)]
    again = run_seeds(draw, range(5), jnp.float32(1), vectorize=not vectorize, store=store)
    assert again.resumed == 3
    assert again.arrays["seed"].tolist() == list(range(5))


def test_a_failing_check_stops_before_the_chunk_is_kept():
    store = MemoryStore()

    def check(arrays, seeds):
        if 2 in seeds:
            raise FloatingPointError(f"{seeds} {arrays['seed'].tolist()}")

    with pytest.raises(FloatingPointError, match=r"\[2, 3\] \[2, 3\]"):
        run_seeds(draw, range(6), jnp.float32(1), chunk_size=2, store=store, check=check)
    assert list(store) == [(0, 1)]


@pytest.mark.parametrize(
    ("seeds", "options", "message"),
    [
        ([], {}, "no seeds"),
        ([1, 1], {}, r"distinct integers .* \[1, 1\]"),
        ([-1], {}, r"\[-1\]"),
        ([2**31], {}, "2147483648"),
        ([0], {"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        ([0], {"chunk_size": np.int64(-1)}, "chunk_size must be at least 1, got -1"),
        ([0], {"chunk_size": 1.5}, "chunk_size must be a whole number, got 1.5"),
        ([0.5], {}, "seeds must be a whole number, got 0.5"),
        ([np.int64(2**31)], {}, "2147483648"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_are_named(seeds, options, message):
    with pytest.raises(ValueError, match=message):
        run_seeds(draw, seeds, jnp.float32(1), **options)


@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("shape", [(), (2,)])
@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_keys_are_shared_like_other_arrays(make, shape, vectorize):
    def run_seed(seed, common):
        one = common["key"] if shape == () else common["key"][1]
        return {"draw": common["scale"] * jax.random.uniform(jax.random.fold_in(one, seed), (2,))}

    key = make(7)
    common = {"key": jax.random.split(key, shape) if shape else key, "scale": jnp.float32(3)}
    found = run_seeds(run_seed, range(3), common, vectorize=vectorize).arrays["draw"]
    np.testing.assert_allclose(found, [run_seed(seed, common)["draw"] for seed in range(3)], rtol=1e-6)


def test_progress_is_silent_when_the_output_is_no_terminal(capfd):
    run_seeds(draw, [0, 1], jnp.float32(1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("seeds", "chunk_size"), [([0, 1, 2, 3], 3), ([4], 3), ([2], 1)])
def test_a_part_of_a_run_has_the_very_bits_of_the_whole(seeds, chunk_size):
    def product(seed, size):
        draws = jax.random.normal(seed_key(seed), (2, 31, 31))
        return {"product": size * draws[0] @ draws[1]}

    run = functools.partial(run_seeds, product, vectorize=True, chunk_size=chunk_size, label=None)
    whole = run(range(5), jnp.float32(1)).arrays["product"]
    part = run(seeds, jnp.float32(1), part_of=5).arrays["product"]
    np.testing.assert_array_equal(part, whole[seeds])


def test_stored_seeds_with_other_arrays_are_named():
    store = MemoryStore({(1,): {"seed": np.array([1]), "of_another_version": np.zeros(1)}})
    with pytest.raises(SublimError, match=r"stored seeds \[1\] have other arrays than the rest.*delete the folder"):
        run_seeds(draw, [0, 1], jnp.float32(2), store=store)
