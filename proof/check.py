"""`python -m proof.check` (`make proof`): compile the proof from nothing and see on what it rests.

It fails if the statement is not the one whose fingerprint is committed, if a file leaves a gap or declares an axiom, if
something does not compile, if a statement has no proof, or if any theorem of the table rests on an axiom other than
the three classical ones of MathComp-Analysis. It installs nothing and needs nothing but Python and Coq.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent

AXIOMS = {
    "propositional_extensionality": "equivalent propositions are equal",
    "functional_extensionality_dep": "functions with equal values are equal",
    "constructive_indefinite_description": "what exists can be chosen",
}
"""The classical axioms on which the real numbers of MathComp-Analysis rest (its `boolp.v`)."""

ARGUMENTS = r"Hypothes[ie]s|Variables?|Context"
GAPS = rf"{ARGUMENTS}|Admitted|admit|give_up|Axioms?|Parameters?|Conjectures?|Declare|Primitive|bypass_check"
GAP = re.compile(rf"\b({GAPS}|(?:Unset|Set)\s+(?:Guard|Positivity|Universe)\s+Checking)\b")
"""What would leave something unproved. The first are arguments inside a section, and axioms outside."""

STATEMENT = re.compile(r"^Definition (\w+) : Prop", re.MULTILINE)
COMMENT = re.compile(r"\(\*.*?\*\)", re.DOTALL)
INSTALL = "on Debian: apt-get install coq make libcoq-mathcomp-analysis libcoq-mathcomp-algebra-tactics"


class ProofError(Exception):
    """What stops the check; the message is for the person who ran it."""


def statements(folder: Path) -> list[str]:
    """The names of the statements; that of the theorem that proves one is the same in lower case."""
    return STATEMENT.findall((folder / "statement.v").read_text("utf-8"))


def read(folder: Path) -> None:
    """What can be seen without Coq: the fingerprint of the statement, and no gap in any file.

    Raises:
        ProofError: naming the file, the line and the word.
    """
    committed = (folder / "statement.sha256").read_text("utf-8").split()[0]
    if hashlib.sha256((folder / "statement.v").read_bytes()).hexdigest() != committed:
        raise ProofError(
            "statement.v is not the statement whose fingerprint is committed. If it may change, read it once more, and "
            "then: (cd proof && sha256sum statement.v > statement.sha256)"
        )
    listed = set(re.findall(r"^\w+\.v$", (folder / "_CoqProject").read_text("utf-8"), re.MULTILINE))
    there = {path.name for path in folder.glob("*.v")}
    if listed != there:
        raise ProofError(f"_CoqProject and the folder differ in {', '.join(sorted(listed ^ there))}")
    for name in sorted(there):
        depth = 0
        text = COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), (folder / name).read_text("utf-8"))
        for number, line in enumerate(text.splitlines(), 1):
            depth += len(re.findall(r"^\s*Section\b", line)) - len(re.findall(r"^\s*End\b", line))
            for word in GAP.findall(line):
                if depth == 0 or not re.fullmatch(ARGUMENTS, word):
                    raise ProofError(f"{name}, line {number}: {word!r} leaves something unproved: {line.strip()}")


def compiled(folder: Path, build: Path) -> None:
    """Compile copies of the files in a folder that is empty, two at a time.

    Raises:
        ProofError: with what Coq said.
    """
    for name in ("coqc", "coq_makefile", "make"):
        if not shutil.which(name):
            raise ProofError(f"there is no {name}; {INSTALL}")
    for path in (*folder.glob("*.v"), folder / "_CoqProject"):
        shutil.copy(path, build)
    _run(["coq_makefile", "-f", "_CoqProject", "-o", "Makefile"], build)
    _run(["make", "-j2", "--no-print-directory"], build)


def assumptions(folder: Path, build: Path, names: list[str]) -> set[str]:
    """The axioms on which theorems rest, taken together: one walk through all that they use, for it takes seconds.

    Raises:
        ProofError: with what Coq said, where a theorem is missing.
    """
    together = ", ".join(f"@{name}" for name in names)
    answer = _ask(folder, build, [f"Definition together := ({together}, tt).", "Print Assumptions together."])
    _, _, axioms = answer.partition("Axioms:\n")
    if not axioms and "Closed under the global context" not in answer:
        raise ProofError(f"Coq's answer is not understood: {answer}")
    return {axiom.rpartition(".")[2] for axiom in re.findall(r"^([\w.']+)", axioms, re.MULTILINE)}


def check(folder: Path = FOLDER) -> str:
    """All of it; what was checked, in words.

    Raises:
        ProofError: for the first thing that is wrong.
    """
    start = time.monotonic()
    read(folder)
    table = tomllib.loads((folder / "correspondence.toml").read_text("utf-8"))
    named = statements(folder)
    theorems = [name.lower() for name in named]
    theorems += dict.fromkeys(name for row in table["row"] for name in row["coq"])
    with tempfile.TemporaryDirectory() as build:
        compiled(folder, Path(build))
        _ask(folder, Path(build), [f"Check ({name.lower()} : {name})." for name in named])  # each is its proof
        used = sorted(assumptions(folder, Path(build), theorems))
        if set(used) - set(AXIOMS):
            for name in theorems:
                if others := assumptions(folder, Path(build), [name]) - set(AXIOMS):
                    raise ProofError(f"{name} rests on {', '.join(sorted(others))}")
    return (
        f"Coq has checked {len(theorems)} theorems, among them the {len(named)} statements of statement.v, "
        f"in {time.monotonic() - start:.0f} s.\n"
        f"Axioms: {', '.join(f'{name} ({AXIOMS[name]})' for name in used) or 'none'}. No gaps."
    )


def _ask(folder: Path, build: Path, lines: list[str]) -> str:
    """What Coq answers to lines that follow all files."""
    modules = re.findall(r"^(\w+)\.v$", (folder / "_CoqProject").read_text("utf-8"), re.MULTILINE)
    text = "\n".join([f"From Subliminal Require Import {' '.join(modules)}.", *lines, ""])
    (build / "audit.v").write_text(text, "utf-8")
    return _run(["coqc", "-Q", ".", "Subliminal", "audit.v"], build)


def _run(command: list[str], folder: Path) -> str:
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ)
    if run.returncode:
        raise ProofError(f"{' '.join(command)} failed:\n{run.stdout[-4000:]}{run.stderr[-4000:]}")
    return run.stdout


def main() -> int:
    """The command: 0 if all is proved, 1 if not, 2 if it cannot be checked here."""
    argparse.ArgumentParser(prog="python -m proof.check", description=__doc__.split("\n\n")[0]).parse_args()
    try:
        print(check())
    except ProofError as error:
        print(error, file=sys.stderr)
        return 2 if INSTALL in str(error) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
