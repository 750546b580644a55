"""The machine-checked proof of Theorem 1, in Coq with MathComp-Analysis, and what ties it to the library.

`statement.v` says what is proved; the other `.v` files prove it, in the order of `_CoqProject`. `check` (`make proof`)
has Coq check all of it; `correspondence.toml` sets every step and fact beside its function, its test and its negative
control, from which `table` writes the tables of docs/theorem.md and docs/proof.md.
"""
