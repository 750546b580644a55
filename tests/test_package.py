"""Importing is cheap and changes nothing; what the package promises by name is there."""

import json
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

import sublim_theory

INSTANCE = """
import numpy as np
inputs, params = np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]])
f = lambda params, x: x @ params
teacher_loss = lambda params: ((params - 1) ** 2).sum()
"""


def fresh(code):
    """Output of a new interpreter in which warnings are errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_import_loads_none_of_the_heavy_libraries_and_what_reads_records_needs_neither_jax_nor_scipy_stats():
    heavy = {"jax", "flax", "optax", "numpy", "scipy", "sklearn", "matplotlib", "pooch", "rich", "tyro"}
    assert fresh(f"import sys, sublim_theory; print(sorted({heavy!r} & set(sys.modules)))") == "[]"
    modules = "import sys, sublim_theory.record, sublim_theory.statistics"
    heavy = {"jax", "scipy.stats", "sklearn", "pandas", "xarray", "pooch"}
    assert fresh(f"{modules}; print(sorted({heavy!r} & set(sys.modules)))") == "[]"


def test_no_submodule_changes_the_configuration_of_jax_and_few_load_flax():
    names = [f"sublim_theory.{name}" for name in sublim_theory.__all__ if name != "__version__"]
    light = ", ".join(name for name in names if name.rpartition(".")[2] in ("losses", "noise", "optimizers", "theorem"))
    code = f"""
import jax, sys
before = dict(jax.config.values)
import {light}
print("flax" in sys.modules)
import {", ".join(names)}
print(before == dict(jax.config.values))
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.split() == ["False", "True"]


def test_public_submodules_are_there_and_others_are_refused_with_their_names():
    for name in sublim_theory.__all__:
        assert getattr(sublim_theory, name)
    assert set(sublim_theory.__all__) <= set(dir(sublim_theory))
    with pytest.raises(AttributeError, match=r"no attribute 'modles'; it has .*models"):
        sublim_theory.modles  # noqa: B018


def test_wheel_and_sdist_install_and_verify_in_an_environment_of_their_own(tmp_path):
    """The wheel is built from the sdist; its dependencies are lent by this environment, the clone is not."""
    root, made = Path(__file__).parents[1], tmp_path / "made"
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", made, root], check=True, capture_output=True
    )
    (wheel,), (sdist,) = made.glob("*.whl"), made.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "experiments/expected.toml", "tests/conftest.py", "docs/index.md"} <= names
    assert not [name for name in names if name.endswith(("fig10b.png", ".chunk", "chunks"))]

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    binaries = tmp_path / "venv" / "bin"
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib"))  # .pth files in there, the clone's, are not read
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", binaries / "python", "install", "-q", "--no-deps", wheel], check=True
    )

    def run(*words):
        return subprocess.run(
            [binaries / words[0], *words[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert str(packages) in run("python", "-c", "import sublim_theory; print(sublim_theory.__file__)").stdout
    (tmp_path / "instance.py").write_text(INSTANCE)
    verified = run("sublim", "verify", "instance.py", "--json")
    assert verified.returncode == 0, verified.stderr
    refused = run("sublim", "reproduce", "fig10")
    assert refused.returncode == 2
    assert "lives in the repository" in refused.stderr
    assert json.loads(verified.stdout)["branch"] == "transfer"
