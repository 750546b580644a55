"""Links of pages: they are written for the repository, and lead on the site to what it has."""

import os
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent

_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)(?=[)#])")
_COPIED = (".json", ".png", ".svg")


def for_site(markdown: str, page: str) -> tuple[str, dict[str, str]]:
    """A page with its links as the site has them, and the files that the site needs for them.

    Args:
        markdown: text of the page.
        page: path of the page relative to `docs/`, with `/`.

    Returns:
        The text, and where the site has a file (relative to `docs/`) -> what it is in the repository.

    Raises:
        FileNotFoundError: naming the page, for a link to nothing outside `docs/`.
    """
    folder, files = posixpath.dirname(page), {}

    def moved(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link[1]))
        if path.startswith("docs/"):
            download = path == f"docs/{page.removesuffix('.md')}.ipynb"  # on the notebook's own page
            return link[1] if download else re.sub(r"\.ipynb$", ".md", link[1])
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"docs/{page} links to {link[1]}, and there is no {path}")
        where = place(path)
        if ":" in where:
            return where
        if ".md#" not in where:
            files[where] = path
        return posixpath.relpath(where, folder or ".")

    return _LINK.sub(moved, markdown), files


def place(path: str) -> str:
    """Where the site leads for a file or folder of the repository: an address, or a place relative to `docs/`.

    A record has its experiment's page; pictures are copied. Sources are in the repository, whose address on the web is
    the environment variable `SOURCES`; without it the site has them as plain text.
    """
    folder, _, name = path.partition("/")
    if folder == "figures" and (ROOT / path / "summary.json").exists():
        experiment, _, preset = name.rpartition("-")
        return f"experiments/{experiment}.md#{preset}"
    if path.endswith(_COPIED):
        return path
    sources = os.environ.get("SOURCES")
    return f"{sources}/{path}" if sources else f"sources/{path}.txt"


def content(path: str) -> bytes:
    """A file of the repository; of a folder its Python files, one after the other."""
    if not (ROOT / path).is_dir():
        return (ROOT / path).read_bytes()
    inside = sorted((ROOT / path).glob("*.py"))
    return "\n".join(f"# {each.name}\n\n{each.read_text('utf-8')}" for each in inside).encode()
