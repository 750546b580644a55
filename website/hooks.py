"""What MkDocs calls while it builds the site: it adds the pages that are made, fills in numbers and sets formulas.

In a page, `{{ mean("RECORD", "CONDITION") }}` becomes that mean with its interval, and
`{{ figure("RECORD", "STEM", "what is to be seen") }}` the picture; a record is a folder under `figures/`.
"""

import ast
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import sublim_theory
from experiments import tables
from sublim_theory.protocols import lookup
from sublim_theory.record import load
from sublim_theory.statistics import Summary
from website import formulas, interactive, notebooks, records, sources

_CALL = re.compile(r"\{\{ (\w+)(\(.*?\)) \}\}")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that are made from records, sources, notebooks and docstrings."""
    _conditions.cache_clear()  # of the build before, where MkDocs serves the pages
    made: dict[str, str | bytes | Path] = {**records.pages(), **_api(), **notebooks.pages()}
    made["interactive/weights.json"] = interactive.export()
    written = {file.src_uri: _filled(file.content_string) for file in files.documentation_pages()}
    linked = [path for page, text in written.items() for path in sources.outside(text, page).values()]
    made |= sources.pages([*linked, *records.sources()])
    for place, content in made.items():
        if isinstance(content, Path):
            files.append(File.generated(config, place, abs_src_path=str(content)))
        else:
            files.append(File.generated(config, place, content=content))
    _complete(config.nav or [])
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Fill in the numbers of records, and lead links out of `docs/` to where the site has those files."""
    if page.file.generated_by:
        return markdown
    return notebooks.as_page(sources.redirected(_filled(markdown), page.file.src_uri))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Set the formulas."""
    return formulas.with_mathml(html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Name the theme's search dialog for screen readers."""
    dialog = 'data-md-component="search" role="dialog"'
    return output.replace(dialog, f'{dialog} aria-label="Search"')


def _filled(markdown: str) -> str:
    """The page with the calls of `mean` and `figure` replaced by what they give."""
    return _CALL.sub(lambda call: lookup("macro", call[1], _MACROS)(*ast.literal_eval(call[2])), markdown)


def _mean(record: str, condition: str) -> str:
    return tables.mean(lookup(f"condition of {record}", condition, _conditions(record)))


@cache  # a page is filled in twice, and names a record many times
def _conditions(record: str) -> dict[str, Summary]:
    return load(tables.RECORDS / record).conditions


def _figure(record: str, stem: str, alt: str) -> str:
    return f"[![{alt}](../figures/{record}/{stem}.png){{ loading=lazy }}](../figures/{record}/{stem}.svg)"


_MACROS: Mapping[str, Callable[..., str]] = {"mean": _mean, "figure": _figure}


def _api() -> dict[str, str]:
    """A page for every public module of the library."""
    modules = [name for name in sublim_theory.__all__ if not name.startswith("_")]
    return {f"api/{name}.md": f"# sublim_theory.{name}\n\n::: sublim_theory.{name}\n" for name in modules}


def _complete(nav: list[Any]) -> None:
    """Put the made pages into the navigation of `mkdocs.yml`: after those that stand there."""
    sections: Mapping[str, list[Any]] = {title: pages for entry in nav for title, pages in entry.items()}
    for heading, names in records.groups().items():
        sections["Experiments"].append({heading: [{name: f"experiments/{name}.md"} for name in names]})
    sections["API"].extend({place[4:-3]: place} for place in _api())
