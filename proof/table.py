"""`python -m proof.table`: write the tables of docs/theorem.md and docs/proof.md from `correspondence.toml`."""

import re
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
DOCS = FOLDER.parent / "docs"
PAGES = ("theorem.md", "proof.md")
PLACE = re.compile(r"(<!-- (steps|hypotheses):[^>]*-->\n).*?(<!-- /\2 -->)", re.DOTALL)


def correspondence() -> dict[str, list[dict[str, Any]]]:
    """The rows (`row`) and the hypotheses (`hypothesis`), as the file has them."""
    return tomllib.loads((FOLDER / "correspondence.toml").read_text("utf-8"))


def filled(page: str) -> str:
    """The page with every table replaced by that of the file."""
    tables = {"steps": steps, "hypotheses": hypotheses}
    return PLACE.sub(lambda place: place[1] + tables[place[2]]() + place[3], page)


def steps() -> str:
    """A line for every step, remark and fact."""
    lines = [
        "| row | what is said | proved in Coq | computed by | tested, and seen to fail without its condition |",
        "|---|---|---|---|---|",
    ]
    for row in correspondence()["row"]:
        test, control = f"../tests/theorem/{row['test']}", row["control"].removeprefix("test_").replace("_", " ")
        theorems = [f"[`{theorem(name)}`](../proof/{name.partition('.')[0]}.v)" for name in row["coq"]]
        functions = ", ".join(f"`{name}`" for name in row["python"])
        proved = ", ".join(theorems) or f"no: {row['unproved']}"
        lines.append(f"| {row['name']} | {row['says']} | {proved} | {functions} | [test]({test}): {control} |")
    return "\n".join(lines) + "\n"


def hypotheses() -> str:
    """A line for every hypothesis of the statement."""
    lines = ["| in Coq | in words | what `verify` does | and names where it fails |", "|---|---|---|---|"]
    for row in correspondence()["hypothesis"]:
        lines.append(f"| `{row['coq']}` | {row['says']} | {row['verify']} | `{row['names']}` |")
    return "\n".join(lines) + "\n"


def theorem(name: str) -> str:
    """The name of a theorem without that of its file."""
    return name.partition(".")[2]


if __name__ == "__main__":
    for each in PAGES:
        (DOCS / each).write_text(filled((DOCS / each).read_text("utf-8")), "utf-8")
