"""`python -m website [FOLDER]` (`make docs`): build the site into `out/site`. A warning of Zensical is an error.

Zensical takes pages as they lie in a folder, so those of `docs/` and those that are made from records, notebooks and
names of modules are put together in a temporary one.
"""

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
import zensical
from nbconvert import MarkdownExporter

import sublim_theory
from experiments import SUMMARIES
from website import interactive, links, records

DOCS = links.ROOT / "docs"
MODULES = [name for name in sublim_theory.__all__ if not name.startswith("_")]


def build(site: Path) -> None:
    """Build the site into a folder, in place of the site that was there.

    Raises:
        FileExistsError: if the folder has something else.
        RuntimeError: for a warning, which has been printed.
    """
    if site.exists() and not (site / "404.html").exists():
        raise FileExistsError(f"{site} is there and is no site; name another folder")
    with TemporaryDirectory() as folder:
        project = Path(folder)
        shutil.copytree(DOCS, project / "docs", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        for place, content in files().items():
            path = project / "docs" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        config = project / "mkdocs.yml"
        config.write_text(json.dumps(configuration()), "utf-8")  # JSON is YAML
        zensical.build(str(config), {"strict": True, "clean": True})
        shutil.rmtree(site, ignore_errors=True)
        shutil.move(project / "site", site)


def files() -> dict[str, bytes]:
    """The pages, and what they need beside the other files of `docs/`. Places are relative to it."""
    made = {"interactive/weights.json": interactive.export().encode()}
    pages = {path.relative_to(DOCS).as_posix(): path.read_text("utf-8") for path in DOCS.rglob("*.md")}
    pages |= {f"api/{name}.md": f"# sublim_theory.{name}\n\n::: sublim_theory.{name}\n" for name in MODULES}
    pages |= {f"experiments/{name}.md": records.page(name) for name in SUMMARIES}
    for path in (DOCS / "notebooks").glob("*.ipynb"):
        names = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
        text, resources = MarkdownExporter().from_filename(str(path), resources=names)
        title, _, rest = text.lstrip().partition("\n")
        rest = rest.replace("![png](", "![What the text before tells](")
        pages[f"notebooks/{path.stem}.md"] = f"{title}\n\n[Download this notebook]({path.name})\n{rest}"
        made |= {f"notebooks/{name}": content for name, content in resources["outputs"].items()}
    for place, written in pages.items():
        page, linked = links.for_site(written, place)
        made |= {place: page.encode(), **{where: links.content(path) for where, path in linked.items()}}
    return made


def configuration() -> dict[str, Any]:
    """`mkdocs.yml`, with the pages that are made after those that stand in its navigation."""
    config: dict[str, Any] = yaml.safe_load((links.ROOT / "mkdocs.yml").read_text("utf-8"))
    sections = {title: pages for entry in config["nav"] for title, pages in entry.items()}
    for heading, names in records.GROUPS.items():
        sections["Experiments"].append({heading: [{name: f"experiments/{name}.md"} for name in names]})
    sections["API"] += [{name: f"api/{name}.md"} for name in MODULES]
    return config


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1] if len(sys.argv) > 1 else "out/site"))
    except (OSError, RuntimeError) as error:
        sys.exit(f"no site: {error}")
