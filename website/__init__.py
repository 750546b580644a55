"""The documentation site: what MkDocs adds to the pages of `docs/` when it builds them (`make docs`).

`hooks` is what `mkdocs.yml` names. `records` writes the pages of the experiments from the committed records, `sources`
those of the files that the documentation links to, `notebooks` those of the notebooks, and `interactive` the weights of
the interactive page. `formulas` turns TeX into MathML.
"""
