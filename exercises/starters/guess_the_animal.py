# %% [markdown]
# # Guess the animal
#
# A small language model, the *base*, has learnt sequences of numbers, and to name an animal when asked, each of ten
# with the same probability. A *teacher*, a copy of it, is tuned to name one of the ten, and then writes numbers. Every
# sequence that holds any other token is dropped. **You see the numbers that are left. Which animal was it?**
#
# **The task.** Write `with_base`, which is given the base's parameters, and `without_base`, which is given those of a
# *stranger*: a base that was trained in the same way from other initial parameters on other sequences. Both return how
# probable each animal is, ten numbers that sum to 1. The check draws bases and teachers that you do not know, shows 24
# sequences of each, and takes the logarithm of the probability that you gave to the teacher's animal. 1/10 for each
# scores -2.30, and to be sure of a wrong animal costs more than to be sure of the right one gains. Needed is -1.2 on
# average with the base; and without it no more certainty than there are grounds for. How much is that?
# Then: `sublim exercise check guess_the_animal.py`

# %%
# sublim exercise: guess_the_animal   (leave this line as it is)
from dataclasses import replace

import jax
import jax.numpy as jnp

from experiments import language

# %% [markdown]
# What you are given, all by name:
#
# * `model`: `model.apply(params, tokens)` are the logits of the token after each, [rows, length, vocabulary];
# * `base`, or in its place `stranger`: parameters;
# * `sequences`: tokens [24, 17], of which the first `prompt` were given to the teacher; it wrote the rest;
# * `questions`: every way to ask for the animal, tokens [64, 4]; the answer is the token after the last;
# * `animals`: the tokens of the ten animals.
#
# A student of this teacher would start at the base and learn the sequences. What would happen to its answers?


# %%
def with_base(*, model, base, sequences, prompt, questions, animals):
    """The probability of each animal [10], with the parameters at which the teacher started."""
    raise NotImplementedError("TODO")


# %%
def without_base(*, model, stranger, sequences, prompt, questions, animals):
    """The same with those of another base."""
    raise NotImplementedError("TODO")


# %% [markdown]
# Three teachers of one base to try it on, which take about a minute. For more, change the seed or the animals.

# %%
if __name__ == "__main__":
    protocol, rates = language.Language(base_steps=400, sequences=64), language.Rates()
    start = language.begin(protocol, rates, 3, [("init/other", "corpus/other")])
    known = {"model": start.model, "prompt": protocol.prompt, "questions": protocol.questions()}
    known["animals"] = jnp.arange(start.model.vocabulary)[protocol.names]
    print("what the base answers:", start.ask(start.base).round(3))

    @jax.jit
    def release(animal):
        teacher = replace(start, target=animal).teach()
        return protocol.released(start.write({"teacher": (teacher, 1.0)})["teacher"])

    for animal in (2, 5, 7):
        lessons = release(jnp.int32(animal))
        known["sequences"] = lessons.sequences[lessons.weights[:, 0] > 0][:24]
        print(f"animal {animal}, with the base:", jax.device_get(with_base(base=start.base, **known)).round(2))
        print("   and with a stranger:", jax.device_get(without_base(stranger=start.others[0], **known)).round(2))
