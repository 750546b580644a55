# %% [markdown]
# # Three logits
#
# With three auxiliary logits, 504 updates on noise and the settings of `BASELINE`, an auxiliary-only student learns to
# classify some of the digits. **How much more can you get, with the same logits and the same updates, and how sure are
# you?** You may change what `BOUNDS` and `CHOICES` list, and `hidden` (1 to 3 layers of at most 128 units).
#
# Experiments of this kind mislead: students differ much from seed to seed, and who tries twenty settings on five seeds
# finds one that looks good. So: **first** write down three factors with the direction that you expect and why; **then**
# run them, in pairs with the baseline on the same seeds; choose the best setting on some seeds and measure its gain on
# *others*. The check runs all of it again, on seeds from 1,000,000 on. That an expectation fails is no mistake;
# a finding that does not hold is one. Then: `sublim exercise check three_logits.py`

# %%
# sublim exercise: three_logits   (leave this line as it is)
from exercises.three_logits import BASELINE, BOUNDS, CHOICES, accuracies
from sublim_theory.statistics import summarize

# %% [markdown]
# **Before you run anything.** Three settings, the value that you try for each, whether the accuracy goes `"up"`,
# `"down"` or changes by less than .05 (`"none"`), and a sentence why. Do not change them afterwards.

# %%
FACTORS = {
    "learning_rate": {"value": None, "expected": "TODO", "because": "TODO"},
    "TODO one more": {"value": None, "expected": "TODO", "because": "TODO"},
    "TODO another one": {"value": None, "expected": "TODO", "because": "TODO"},
}

# %% [markdown]
# **The experiment.** `accuracies(settings, seeds, first_seed)` gives one accuracy a seed; with the same seeds the
# differences are paired. `summarize(values)` has `mean` and `ci95`. A few seconds to compile, then a second a seed. It
# stands under `__main__`, so that the check does not run it again.

# %%
if __name__ == "__main__":
    print(BASELINE, BOUNDS, CHOICES, sep="\n")
    if any(factor["value"] is None for factor in FACTORS.values()):
        raise NotImplementedError("TODO: write down all of FACTORS first")
    baseline = accuracies({}, seeds=4)
    print("baseline:", summarize(baseline).mean, "±", summarize(baseline).ci95)
    for name, factor in FACTORS.items():
        difference = summarize(accuracies({name: factor["value"]}, seeds=4) - baseline)
        print(name, factor["value"], f"{difference.mean:+.3f} ± {difference.ci95:.3f}", "expected:", factor["expected"])

# %% [markdown]
# **What you found.** For each factor `"up"`, `"down"` or `"none"`; the best setting, any number of changes together;
# and its gain over the baseline: the mean of the paired differences and the half-width of its 95% interval.

# %%
FOUND = None  # TODO: {"learning_rate": "up", ...}
BEST = None  # TODO: {"learning_rate": ..., ...}
GAIN = None  # TODO: (mean, half-width)
