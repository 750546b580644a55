"""TeX in pages becomes MathML when the site is built, so that formulas need neither a script nor a network."""

import html
import re

from latex2mathml.converter import convert
from markdown import Extension, Markdown

# What pymdownx.arithmatex makes of $...$ and $$...$$ in its generic mode.
_PLACE = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


class Formulas(Extension):  # type: ignore[misc]  # Markdown has no types
    """What `mkdocs.yml` names: the last thing that Markdown does with a page."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: D102
        md.postprocessors.register(self, "formulas", -1)

    def run(self, page: str) -> str:
        r"""The HTML of a page with every formula as MathML.

        Raises:
            ValueError: for a formula with a command that the converter does not know, or with `&`, which it leaves as
                text, and for one in `$$` within a paragraph.
        """
        inline = re.search(r'\$<span class="arithmatex">.{0,60}', page)
        if inline:
            raise ValueError(f"a formula in $$ is a paragraph of its own, between empty lines: {inline[0]!r}")
        return _PLACE.sub(_converted, page)


def _converted(place: re.Match[str]) -> str:
    tag, opening, tex = place[1], place[2], html.unescape(place[3]).strip()
    mathml = convert(tex, display="block" if opening == "[" else "inline")
    unknown = re.search(r"<m[io]>(\\\w+|&amp;|&)</m[io]>", mathml)
    if unknown:
        raise ValueError(f"the formula {tex!r} has {unknown[1]!r}, which does not become MathML; write it without")
    scrolls = ' tabindex="0"' if tag == "div" else ""  # by keyboard too, where it is wider than the window
    return f'<{tag} class="formula"{scrolls}>{mathml}</{tag}>'
