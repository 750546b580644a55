"""The experiments: one module per figure or claim, run from a clone with `python -m experiments NAME`.

Each module has a frozen `Config`, its `PRESETS` (`smoke`, `default`, `paper`) and `run(config) -> Result`.
"""

EXPERIMENTS = {"fig10": "An MLP learns digits from three auxiliary logits on noise (figure 10 of the paper)"}
"""Name of each module here that is an experiment, and the one line that `sublim list` shows for it."""
