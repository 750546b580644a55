"""Real processes of one tiny run, whole or disturbed, and what they must end with."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from sublim_theory.record import load

ROOT = Path(__file__).parents[2]
FAULTS = Path(__file__).parent / "faults"
SEEDS = 24
OPTIONS = f"--preset smoke --hidden 8 --noise-images 64 --teacher-epochs 1 --student-epochs 1 --seeds {SEEDS}"
COMMAND = [sys.executable, "-m", "experiments", "fig10", *shlex.split(OPTIONS)]


class Runs:
    """Starts the run into a folder, with faults by name (see `faults/sitecustomize.py`), and compares what it left."""

    def __init__(self, folder):
        self.cache = folder / "cache"
        self.cache.mkdir(mode=0o700)
        self.whole = folder / "whole"
        first = self.run(self.whole)  # the only one that compiles, unless asked to
        assert first.returncode == 0, first.stderr

    def start(self, out, *, cold=False, **faults):
        env = {name: value for name, value in os.environ.items() if not name.startswith(("FAULT_", "JAX_"))}
        env |= {f"FAULT_{name.upper()}": str(value) for name, value in faults.items()}
        env |= {"PYTHONPATH": str(FAULTS), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        if not cold:
            env["JAX_COMPILATION_CACHE_DIR"] = str(self.cache)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*COMMAND, "--out", out], env=env, cwd=ROOT, **pipes)

    def run(self, out, **faults):
        """Until it ends; the completed process."""
        process = self.start(out, **faults)
        try:
            texts = process.communicate(timeout=300)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, *texts)

    def kill_after(self, out, seconds, number, **faults):
        """Send a signal so many seconds after the start; the completed process, which may have ended before."""
        process = self.start(out, **faults)
        try:
            texts = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            texts = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, *texts)

    def require_intact(self, out):
        """Whatever has its final name is whole: chunks byte for byte, a record as far as there is one."""
        whole = {path.name: path.read_bytes() for path in (self.whole / "fig10-smoke" / "chunks").iterdir()}
        found = {path.name: path.read_bytes() for path in chunks(out) if not path.name.startswith(".tmp-")}
        assert found.items() <= whole.items()
        if (out / "fig10-smoke" / "summary.json").exists():
            assert load(out / "fig10-smoke").conditions == load(self.whole / "fig10-smoke").conditions

    def require_same(self, out):
        """All numbers are those of the whole run, bit for bit, and nothing else is left."""
        self.require_intact(out)
        assert len(chunks(out)) == SEEDS
        expected, produced = (load(each / "fig10-smoke") for each in (self.whole, out))
        assert produced.conditions == expected.conditions
        assert produced.table.identical(expected.table)
        names = [{path.name for path in (each / "fig10-smoke").iterdir()} - {".lock"} for each in (self.whole, out)]
        assert names[0] == names[1]

    def finish(self, out):
        """Run to the end, undisturbed, and require the numbers of the whole run; the completed process."""
        last = self.run(out)
        assert last.returncode == 0, last.stderr
        self.require_same(out)
        return last


def chunks(out):
    """The files of finished seeds, temporary ones included."""
    folder = out / "fig10-smoke" / "chunks"
    return sorted(folder.iterdir()) if folder.exists() else []
