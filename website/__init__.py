"""The documentation site (`make docs`): the pages of `docs/`, and those that are made from what the repository has.

`records` writes the pages of the experiments and the numbers of others, `interactive` the weights of the interactive
page; `links` leads to files outside `docs/`, and `formulas` turns TeX into MathML. `python -m website` builds it all.
"""
