"""Devices: the same numbers on any number of them, memory, deterministic flags, a cache that nobody else can write."""

import os
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_theory import cli, devices, ensemble
from sublim_theory.devices import DeviceError
from sublim_theory.ensemble import run_seeds
from sublim_theory.record import load, provenance

EIGHT = "--xla_force_host_platform_device_count=8"

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from sublim_theory.ensemble import run_seeds, seed_key, stream

def run_seed(seed, scale):
    key = seed_key(seed)
    x = jax.random.normal(stream(key, "x"), (64, 48))
    weights = scale * jax.random.normal(stream(key, "w"), (48, 32))
    loss = lambda w: jnp.mean(jax.nn.relu(x @ w) ** 2)
    end, losses = jax.lax.scan(lambda w, _: (w - 0.1 * jax.grad(loss)(w), loss(w)), weights, None, length=20)
    return {"losses": losses, "end": end, "seed": seed}

shared = jnp.float32(0.2)
"""


def in_python(code, *words, flags=EIGHT):
    """Output of a new interpreter with these XLA flags."""
    run = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_eight_emulated_devices_give_the_numbers_of_one():
    in_python(
        PROGRAM
        + """
assert len(jax.local_devices()) == 8
one = run_seeds(run_seed, range(11), shared, devices=1).arrays
assert np.ptp(one["losses"], axis=0).min() > 0
for seeds in (1, 5, 8, 11):  # fewer than the devices, a part of them, all, and a remainder
    for devices, options in ((3, {}), (None, {}), (None, {"chunk_size": 3})):
        mapped = run_seeds(run_seed, range(seeds), shared, devices=devices, **options).arrays
        for name in one:  # each device runs the program of one seed: the very bits
            np.testing.assert_array_equal(mapped[name], one[name][:seeds], err_msg=f"{name} {seeds} {devices}")
    for devices in (1, 8) if seeds == 11 else ():
        twice = [run_seeds(run_seed, range(seeds), shared, devices=devices, vectorize=True).arrays for _ in range(2)]
        for name in one:  # batched products add in another order: rounding; in an equal layout the very bits
            np.testing.assert_array_equal(twice[0][name], twice[1][name], err_msg=name)
            np.testing.assert_allclose(twice[0][name], one[name][:seeds], rtol=1e-5, atol=1e-6, err_msg=name)
"""
    )


def test_seeds_are_computed_on_every_device_and_resume_on_any_number(tmp_path):
    in_python(
        PROGRAM
        + """
import sys
from pathlib import Path
from sublim_theory import devices, ensemble, results
store = results.ChunkStore(Path(sys.argv[1]), {})
program = ensemble._Program(run_seed, (shared,), devices.local())
own = jax.device_put(np.arange(8, dtype=np.int32), devices.split(program.mesh))
out = program.compile(None)(own, program.shared[0])
assert len({shard.device for shard in out["losses"].addressable_shards}) == 8
first = run_seeds(run_seed, range(11), shared, devices=8, store=store)
again = run_seeds(run_seed, range(12), shared, devices=1, store=store)
assert (first.resumed, again.resumed) == (0, 11)
""",
        str(tmp_path),
    )


@pytest.mark.parametrize("count", [0, -1, 10_000])
def test_a_wrong_number_of_devices_is_refused_with_the_right_ones(count, capsys, tmp_path):
    here = len(jax.local_devices())
    with pytest.raises(DeviceError, match=rf"from 1 to {here}, the number of \w+ devices here, got {count}"):
        run_seeds(lambda seed: {"seed": seed}, [0, 1], devices=count)
    line = f"reproduce fig10 --preset smoke --devices {count} --out {tmp_path / 'out'}"
    assert cli.main(line.split()) == 2
    assert f"got {count}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("Unable to initialize backend 'rocm': none\nmore"), "Unable .*: none;"),
        (AssertionError(), "missing;"),
    ],
)
def test_a_platform_that_is_not_there_is_one_line(error, reason, monkeypatch, capsys, tmp_path):
    def refuse():
        raise error

    monkeypatch.setenv("JAX_PLATFORMS", "rocm")
    monkeypatch.setattr(jax, "local_devices", refuse)
    with pytest.raises(DeviceError, match=f"JAX_PLATFORMS='rocm': .*{reason} JAX_PLATFORMS=cpu is always there"):
        devices.local()
    for line in (f"reproduce fig10 --preset smoke --out {tmp_path / 'out'}", "verify"):
        assert cli.main(line.split()) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_the_record_counts_the_cores_that_this_process_may_use():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        found = provenance(seeds=[0], dataset_checksum="", matmul_precision="highest")
    finally:
        os.sched_setaffinity(0, allowed)
    assert found["cores"] == 1


class Widths:
    """A stand-in for `ensemble._compile` that notes how many seeds a device runs at once."""

    def __init__(self, monkeypatch):
        self.seen, compile_program = [], ensemble._compile
        monkeypatch.setattr(
            ensemble,
            "_compile",
            lambda run, width, *rest: self.seen.append(width) or compile_program(run, width, *rest),
        )


def draw(seed, scale):
    return {"normal": scale * jax.random.normal(ensemble.seed_key(seed), (1000,))}


def test_as_many_seeds_run_together_as_the_memory_holds(monkeypatch):
    needs = jax.jit(draw).lower(jnp.int32(0), jnp.float32(1)).compile().memory_analysis()
    a_seed = needs.temp_size_in_bytes + needs.output_size_in_bytes
    assert a_seed >= 4000
    mapped = run_seeds(draw, range(5), jnp.float32(1), vectorize=False).arrays["normal"]
    for memory, width in ((3.5, 3), (0.1, 1), (1000, 5)):  # in seeds; less than one runs one, more than all run all
        widths = Widths(monkeypatch)
        monkeypatch.setattr(devices, "free_memory", lambda _, memory=memory: int(memory * a_seed / devices.MARGIN))
        arrays = run_seeds(draw, range(5), jnp.float32(1), vectorize=True).arrays
        assert widths.seen[0] is None
        assert set(widths.seen[1:]) == {width}
        np.testing.assert_array_equal(arrays["normal"], mapped)


def test_a_given_chunk_size_and_unknown_memory_need_no_measurement(monkeypatch):
    assert devices.free_memory(jax.local_devices(backend="cpu")[0]) is None
    for options, width in (({"chunk_size": 4}, 4), ({}, ensemble.TOGETHER)):
        widths = Widths(monkeypatch)
        run_seeds(draw, range(20), jnp.float32(1), vectorize=True, devices=1, **options)
        assert set(widths.seen) == {width}


@pytest.mark.usefixtures("unchecked")  # it is no device
def test_the_memory_that_others_use_is_not_free():
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 100, "bytes_in_use": 30}

    assert devices.free_memory(Device()) == 70


def test_deterministic_operations_are_asked_of_xla_once_and_other_flags_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", EIGHT)
    devices.make_deterministic()
    devices.make_deterministic()
    assert os.environ["XLA_FLAGS"].split() == [EIGHT, "--xla_gpu_deterministic_ops=true"]


def test_the_flag_comes_in_time_for_xla_to_read_it():
    code = """
import jax, experiments.command
from sublim_theory import devices
devices._DETERMINISTIC = "--xla_gpu_no_such_ops=true"
devices.make_deterministic()
jax.devices()
"""
    with pytest.raises(AssertionError, match="xla_gpu_no_such_ops"):  # a flag that came too late would go unnoticed
        in_python(code)


CACHED = """
import os, sys, jax
from pathlib import Path
from sublim_theory import devices
from sublim_theory.ensemble import run_seeds
from sublim_theory.record import load
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)
with devices.compilation_cache(Path(sys.argv[1])):
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == sys.argv[1], "for processes that are started"
    run_seeds(lambda seed: {"seed": seed + 1}, range(3))
assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
assert jax.config.jax_compilation_cache_dir is None
print(len(hits))
"""


def test_programs_are_kept_in_the_cache_for_the_next_process(tmp_path):
    folder = tmp_path / "new" / "cache"
    assert in_python(CACHED, str(folder)) == "0"
    assert folder.stat().st_mode & 0o777 == 0o700
    kept = {path.name for path in folder.iterdir()}
    assert any(name.endswith("-cache") for name in kept)
    assert int(in_python(CACHED, str(folder))) >= 1
    assert {path.name for path in folder.iterdir()} == kept


@pytest.mark.parametrize("what", ["the folder", "its parent", "a file", "a link", "not a folder", "not ours"])
def test_a_cache_that_others_can_write_to_is_refused(what, tmp_path, monkeypatch, capsys):
    parent = tmp_path / "parent"
    folder = parent / "cache"
    folder.mkdir(parents=True, mode=0o700)
    parent.chmod(0o700)
    with devices.compilation_cache(folder):
        pass
    message = "others can write to"
    if what == "the folder":
        folder.chmod(0o720)
    elif what == "its parent":
        parent.chmod(0o777)
        with pytest.raises(DeviceError, match=message):
            devices.compilation_cache(folder).__enter__()
        parent.chmod(0o1777)  # sticky, as /tmp: others cannot rename what is ours
        with devices.compilation_cache(folder):
            pass
        parent.chmod(0o777)
    elif what == "a file":
        (folder / "program").touch()
        (folder / "program").chmod(0o666)
    elif what == "a link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere").chmod(0o777)
        folder.rmdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif what == "not a folder":
        folder.rmdir()
        folder.touch()
        message = "File exists"
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        message = "belongs to another user"
    with pytest.raises(DeviceError, match=message):
        devices.compilation_cache(folder).__enter__()
    out = tmp_path / "out"
    assert cli.main(f"reproduce fig10 --preset smoke --compilation-cache {folder} --out {out}".split()) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert not out.exists()
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.endurance
def test_an_experiment_on_eight_devices_gives_the_numbers_of_one_and_says_so(tmp_path, tiny_record):
    words = shlex.split("--preset smoke --hidden 16 --noise-images 300 --teacher-epochs 2 --student-epochs 2 --seeds 3")
    code = "import sys; from experiments.command import reproduce; sys.exit(reproduce(sys.argv[1:]))"
    in_python(code, "fig10", *words, "--deterministic", "--chunk-size", "2", "--out", str(tmp_path))
    record = load(tmp_path / "fig10-smoke")
    assert record.provenance["devices_used"] == 8
    assert "deterministic_ops=true" in record.provenance["xla_flags"]
    assert record.table.identical(tiny_record.table)
