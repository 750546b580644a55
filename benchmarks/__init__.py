"""Benchmarks: what the library costs, measured beside something else on the same machine in the same minutes.

They run from a clone with `python -m benchmarks NAME`. Each module named here has `run(argv) -> exit status`, `SCHEMA`,
the version of its JSON record, and `table(record)`, its table.
"""

BENCHMARKS = {
    "fig10": "Figure 10 as the library runs it, and in the form of the published script in PyTorch",
    "theorem": "Verifying Theorem 1 on the paper's network, over the plain gradients that it needs",
    "memory": "Peak memory against the number of seeds, at a fixed chunk",
    "scaling": "Time over devices and processes, and against seeds, width, m and inputs",
    "startup": "Time and memory of the imports, and to the first figure",
}
"""Name of each module here that is a benchmark, and the one line that the help shows for it."""
