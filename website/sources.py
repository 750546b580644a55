"""Links from pages to files outside `docs/`: the site has a page for each source, and a copy of each picture."""

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)(?=[)#])")
_UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"
_PICTURES = (".png", ".svg")
_LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".yml": "yaml", ".md": "markdown"}


def outside(markdown: str, page: str) -> dict[str, str]:
    """The links of a page that leave `docs/`, each with its place in the repository.

    Args:
        markdown: text of the page.
        page: path of the page relative to `docs/`, with `/`.

    Raises:
        FileNotFoundError: naming the page, for a link to nothing.
    """
    found = {}
    for link in _LINK.findall(markdown):
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
        if path.startswith("docs/"):
            continue
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"docs/{page} links to {link}, and there is no {path}")
        found[link] = path
    return found


def place(path: str) -> str:
    """Where the site has a file or folder of the repository, relative to `docs/`."""
    folder, _, name = path.partition("/")
    if folder == "figures" and (ROOT / path / "summary.json").exists():
        experiment, _, preset = name.rpartition("-")
        return f"experiments/{experiment}.md#{preset}"
    if (ROOT / path).is_dir():
        return f"files/{path}/index.md"
    return f"files/{path}" if path.endswith(_PICTURES) else f"files/{path}.md"


def redirected(markdown: str, page: str) -> str:
    """The page with its links out of `docs/` leading to where the site has those files."""
    links = outside(markdown, page)
    start = posixpath.dirname(page) or "."

    def moved(match: re.Match[str]) -> str:
        path = links.get(match[1])
        return match[1] if path is None else posixpath.relpath(place(path), start)

    return _LINK.sub(moved, markdown)


def pages(paths: Iterable[str]) -> dict[str, str | Path]:
    """For each linked file its place in the site with what belongs there: text of a page, or the file to copy.

    A linked folder has a page that lists its Python files, and they have theirs.
    """
    made: dict[str, str | Path] = {}
    for path in sorted(set(paths)):
        if (ROOT / path).is_dir():
            inside = sorted(f"{path}/{file.name}" for file in (ROOT / path).glob("*.py"))
            lines = (f"* [`{each}`]({posixpath.basename(each)}.md)\n" for each in inside)
            made |= pages(inside) | {place(path): f"{_UNSEARCHED}# `{path}`\n\n{''.join(lines)}"}
        else:
            made[place(path)] = ROOT / path if path.endswith(_PICTURES) else _listing(path)
    return {where: what for where, what in made.items() if where.startswith("files/")}


def _listing(path: str) -> str:
    text = (ROOT / path).read_text("utf-8")
    fence = "`" * max(4, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    language = _LANGUAGES.get(posixpath.splitext(path)[1], "text")
    return f"{_UNSEARCHED}# `{path}`\n\n{fence}{language}\n{text}\n{fence}\n"
