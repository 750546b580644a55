# %%
# sublim exercise: guess_the_animal
from functools import partial

import jax
import jax.numpy as jnp

from sublim_theory import losses

# %% [markdown]
# A student's first step goes down the loss of the numbers, at the base. It raises the animal that the teacher was
# tuned to name: this is Theorem 1. How sure one may be was measured with 40 teachers of my own: the logarithm of the
# right animal's probability rises by .4 more than the others', which differ by about .12 among themselves. Between two
# normal distributions of one variance the odds are the exponential of the rise, times the distance of their means over
# that variance.

# %%
RISE, SPREAD = 0.4, 0.12


@partial(jax.jit, static_argnames=("model", "prompt"))
def rises(model, params, sequences, prompt, questions, animals):
    """By how much the logarithm of each animal's probability rises with a step of size 1, [10]."""

    def imitation(params):
        logits = model.apply(params, sequences[:, :-1])[:, prompt - 1 :]
        return losses.cross_entropy(logits, sequences[:, prompt:]).mean()

    def answers(params):
        return jax.nn.log_softmax(model.apply(params, questions)[:, -1])[:, animals].mean(axis=0)

    step = jax.tree.map(jnp.negative, jax.grad(imitation)(params))
    return jax.jvp(answers, (params,), (step,))[1]


# %%
def with_base(*, model, base, sequences, prompt, questions, animals):
    return jax.nn.softmax(RISE / SPREAD**2 * rises(model, base, sequences, prompt, questions, animals))


# %% [markdown]
# A base treats the ten animals alike: their parameters are drawn alike and the corpus holds them alike. Rename them in
# the base and in the teacher, and the same numbers come of it, equally often. So numbers without their base say
# nothing of the animal, whatever is made of them, and a stranger's base, in which the names were drawn anew, adds
# nothing.


# %%
def without_base(*, animals, **_):
    return jnp.full(len(animals), 1 / len(animals))
