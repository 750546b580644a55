"""The notebooks as pages: as they were executed, output included."""

import re
from pathlib import Path

from nbconvert import MarkdownExporter

from website.sources import DOCS

_LINK = re.compile(r"(\]\((?!\w+:)[^)#\s]+)\.ipynb(?=[)#])")


def as_page(markdown: str) -> str:
    """A text whose links to notebooks lead to their pages."""
    return _LINK.sub(r"\1.md", markdown)


def pages() -> dict[str, str | bytes | Path]:
    """For each notebook in `docs/notebooks/` its page and its pictures; places are relative to `docs/`."""
    made: dict[str, str | bytes | Path] = {}
    for path in sorted((DOCS / "notebooks").glob("*.ipynb")):
        names = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
        text, resources = MarkdownExporter().from_filename(str(path), resources=names)
        title, _, rest = text.lstrip().partition("\n")
        rest = as_page(rest).replace("![png](", "![What the text before tells](")
        made[f"notebooks/{path.stem}.md"] = f"{title}\n\n[Download this notebook]({path.name})\n{rest}"
        made |= {f"notebooks/{name}": content for name, content in resources["outputs"].items()}
    return made
