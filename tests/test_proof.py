"""The machine-checked proof: nothing in it is left open, and what stands beside it in tables exists and bites.

Coq itself runs in `make proof`. Here its files are read, and `make proof` is shown what it must refuse.
"""

import hashlib
import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from jax.lax import stop_gradient

from proof import check, table
from sublim_theory import theorem
from sublim_theory.theorem import verify
from sublim_theory.theorem.hypotheses import offset_loss

ROOT = check.FOLDER.parent
ROWS, HYPOTHESES = (table.correspondence()[name] for name in ("row", "hypothesis"))
STATEMENT = (check.FOLDER / "statement.v").read_text("utf-8")


def test_the_statement_is_short_and_nothing_is_left_open():
    assert STATEMENT.count("\n") <= 120
    check.read(check.FOLDER)


def test_every_statement_has_a_proof():
    proofs = "".join(path.read_text("utf-8") for path in check.FOLDER.glob("*.v"))
    names = check.statements(check.FOLDER)
    assert len(names) == 7
    assert all(re.search(rf"^(Theorem|Lemma) {name.lower()} : {name}\.", proofs, re.M) for name in names)


@pytest.fixture
def copy(tmp_path):
    """A copy of the proof to damage."""
    return shutil.copytree(check.FOLDER, tmp_path / "proof", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Lemma gap : False. Proof. Admitted.", "Admitted"),
        ("Lemma gap : False. Proof. admit. Qed.", "admit"),
        ("Axiom gap : False.", "Axiom"),
        ("Parameters gap : False.", "Parameters"),
        ("Hypothesis gap : False.", "Hypothesis"),
        ("Context (gap : False).", "Context"),
        ("Unset Guard Checking.", "Unset Guard Checking"),
    ],
)
def test_a_gap_is_named_with_its_line(copy, text, word):
    path = copy / "lemma1.v"
    lines = path.read_text("utf-8").count("\n")
    path.write_text(path.read_text("utf-8") + text + "\n", "utf-8")
    with pytest.raises(check.ProofError, match=rf"lemma1.v, line {lines + 1}: '{word}' leaves something unproved"):
        check.read(copy)


def test_words_in_comments_and_arguments_of_sections_are_no_gaps(copy):
    with (copy / "lemma1.v").open("a", encoding="utf-8") as file:
        file.write("(* No axiom is needed;\n Admitted is a word. *)\nSection S.\nHypothesis h : True.\nEnd S.\n")
    check.read(copy)


def test_another_statement_is_refused_with_the_way_out(copy):
    (copy / "statement.v").write_text(STATEMENT.replace("0 < alpha ->", ""), "utf-8")
    with pytest.raises(check.ProofError, match=r"not the statement whose fingerprint .* sha256sum statement.v"):
        check.read(copy)


def test_a_file_that_is_not_compiled_is_refused(copy):
    (copy / "more.v").write_text("", "utf-8")
    with pytest.raises(check.ProofError, match=r"differ in more\.v"):
        check.read(copy)


def small_proof(folder, proof):
    """A statement that needs no library, and its proof."""
    statement = "Definition Middle : Prop := forall P : Prop, P \\/ ~ P.\n"
    (folder / "statement.v").write_text(statement, "utf-8")
    (folder / "statement.sha256").write_text(hashlib.sha256(statement.encode()).hexdigest(), "utf-8")
    (folder / "middle.v").write_text(f"From Subliminal Require Import statement.\n{proof}\n", "utf-8")
    (folder / "_CoqProject").write_text("-Q . Subliminal\nstatement.v\nmiddle.v\n", "utf-8")
    (folder / "correspondence.toml").write_text('[[row]]\ncoq = ["middle.other"]\n', "utf-8")
    return folder


OTHER = "Theorem other : True. Proof. exact I. Qed."


@pytest.mark.skipif(not shutil.which("coqc"), reason=f"Coq is not installed; {check.INSTALL}")
@pytest.mark.parametrize(
    ("proof", "refusal"),
    [
        (  # an axiom of another library, which no word in these files betrays
            f"From Coq Require Import Classical_Prop.\n{OTHER}\nTheorem middle : Middle. Proof. exact classic. Qed.",
            "middle rests on classic",
        ),
        (f"{OTHER}\nTheorem middle : forall P : Prop, P -> P. Proof. easy. Qed.", "coqc .*failed"),
        ("Theorem middle : True. Proof. exact I. Qed.", "coqc .*failed"),
        (f"{OTHER}\nTheorem middle : Middle. Proof. intros P. Qed.", "make .*failed"),
    ],
    ids=["axiom", "other statement", "missing", "incomplete"],
)
def test_coq_is_asked_on_what_a_proof_rests(tmp_path, proof, refusal):
    with pytest.raises(check.ProofError, match=refusal):
        check.check(small_proof(tmp_path, proof))


@pytest.mark.skipif(not shutil.which("coqc"), reason=f"Coq is not installed; {check.INSTALL}")
def test_a_proof_without_axioms_passes(tmp_path):
    folder = small_proof(tmp_path, f"{OTHER}\nTheorem middle : Middle. Proof. firstorder. Qed.")
    statement = "Definition Middle : Prop := forall P : Prop, P -> P.\n"
    (folder / "statement.v").write_text(statement, "utf-8")
    (folder / "statement.sha256").write_text(hashlib.sha256(statement.encode()).hexdigest(), "utf-8")
    assert "2 theorems" in check.check(folder)
    assert "Axioms: none" in check.check(folder)


def test_without_coq_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["check"])
    monkeypatch.setenv("PATH", "")
    assert check.main() == 2
    assert "libcoq-mathcomp-analysis" in capsys.readouterr().err


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_what_a_row_names_exists(row):
    for name in row["coq"]:
        file, _, name = name.partition(".")
        assert re.search(
            rf"^(Theorem|Lemma|Corollary|Fact) {name}\b", (check.FOLDER / f"{file}.v").read_text("utf-8"), re.M
        )
    assert row["coq"] or row["unproved"]
    assert row["python"]
    assert all(hasattr(theorem, name) for name in row["python"])
    assert re.search(rf"^def {row['control']}\(", (ROOT / "tests/theorem" / row["test"]).read_text("utf-8"), re.M)


def test_every_step_remark_and_fact_has_a_row():
    names = [row["name"] for row in ROWS]
    assert len(set(names)) == len(names)
    assert {f"step {k}" for k in range(1, 8)} | {f"fact {k}" for k in range(1, 13)} <= set(names)
    page = (ROOT / "docs/theorem.md").read_text("utf-8")
    assert len(re.findall(r"^### \d\. ", page, re.M)) == 7


@pytest.mark.parametrize("page", table.PAGES)
def test_the_tables_of_the_pages_are_those_of_the_file(page):
    text = (table.DOCS / page).read_text("utf-8")
    assert table.filled(text) == text, "run `python -m proof.table`"
    assert table.PLACE.search(text)


def hypotheses_of_the_statement():
    """What stands before an arrow in a statement about the updates, and the fields of its records."""
    found = ["d_student theta0 theta0"] * (STATEMENT.count("d_student theta0 theta0") == 2)
    for name, text in re.findall(r"^Definition (\w+) : Prop :=(.*?)\.$", STATEMENT, re.M | re.S):
        if name.startswith(("Lemma", "Theorem")):
            premises = text.partition(",\n")[2].split("->")[:-1]
            found += [" ".join(premise.split()).removeprefix("(").removesuffix(")") for premise in premises]
    assert {premise.split()[0] for premise in found} == {
        "forall",
        "imitation_loss",
        "dominated",
        "differentiable",
        "0",
        "d_student",
    }
    found = [premise for premise in found if premise.split()[0] not in ("imitation_loss", "dominated")]
    for record in re.findall(r"^Record \w+.*?:= \w+ \{(.*?)\}\.", STATEMENT, re.M | re.S):
        found += re.findall(r"^  (\w+) :", record, re.M)
    return set(found)


def test_every_hypothesis_of_the_statement_has_its_counterpart():
    assert hypotheses_of_the_statement() == {row["coq"] for row in HYPOTHESES}


RNG = np.random.default_rng(0)
PARAMS, INPUTS = {"w": RNG.normal(size=(3, 4)), "v": RNG.normal(size=(4, 3))}, RNG.normal(size=(12, 3))


def network(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def trait(params):
    return jnp.sum(params["w"] ** 2) + jnp.sum(params["v"] ** 2)


def torn(x):
    """Its derivative is not that of its values."""
    return x + jnp.sin(stop_gradient(x))


BROKEN = {
    "forall x, 0 <= w x": {"inputs": INPUTS[:0]},
    "forall x, differentiable (f x) theta0": {"f": lambda params, x: torn(network(params, x))},
    "loss_differentiable": {"imitation_loss": lambda z, y: jnp.sum(torn(z - y) ** 2, axis=-1)},
    "gradient_differentiable": {"imitation_loss": lambda z, y: jnp.sum(jnp.abs(z - y) ** 1.5, axis=-1)},
    "loss_minimum": {"imitation_loss": offset_loss},
    "null_space_orthogonal": {"imitation_loss": lambda z, y: jnp.sum((z - y) ** 4, axis=-1)},
    "differentiable LT theta0": {"teacher_loss": lambda params: torn(trait(params))},
    "0 < alpha": {"alpha": 0.0},
    "d_student theta0 theta0": {"student_params": {"w": PARAMS["w"] + 1, "v": PARAMS["v"]}},
    "lipschitz": {"f": lambda params, x: jnp.cbrt(network(params, x) - network(PARAMS, x))},
    "square_integrable": {"f": lambda params, x: network(params, x) / (x[:, :1] - INPUTS[0, 0])},
    "measurable_loss": {"inputs": np.where(np.arange(12)[:, None] == 5, np.nan, INPUTS)},
    "integrable_loss": {"imitation_loss": lambda z, y: jnp.sum((z - y) ** 2, axis=-1) + jnp.log(0 * z[:, 0])},
    "linear_growth": {"imitation_loss": lambda z, y: jnp.sum(jnp.sqrt(jnp.abs(z - y)), axis=-1)},
}


@pytest.mark.parametrize("row", HYPOTHESES, ids=lambda row: row["coq"])
def test_verify_names_every_hypothesis_that_is_broken(row):
    parts = {"f": network, "params": PARAMS, "teacher_loss": trait, "inputs": INPUTS} | BROKEN[row["coq"]]
    try:
        report = verify(**parts)
        said = " ".join((report.branch, *report.failures))
    except ValueError as error:
        said = str(error)
    assert re.search(rf"(?<![\w.]){row['names']}(?!\w)", said), said


def test_and_nothing_where_none_is():
    verify(network, PARAMS, trait, INPUTS).require()
