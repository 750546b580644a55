"""Benchmarks: what the library costs, measured beside something else on the same machine in the same minutes."""
