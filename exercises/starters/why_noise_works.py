# %% [markdown]
# # Why noise works
#
# A student that imitates a teacher's three meaningless logits on pure noise learns to classify digits; with real digits
# as its inputs it learns much less. **Why, and which inputs serve best?**
#
# The theorem speaks of one step: the student's first update is $d_S \approx \varepsilon\, G\, d_T$ with
# $G = \mathbb{E}_x[J(x)^\top M J(x)]$, where only $G$ knows of the inputs. **The task.** From networks and inputs,
# before any student is trained:
#
# 1. `score`: one number for a set of inputs, larger for inputs on which a student will learn more. The check ranks the
#    nine distributions of `sublim_theory.noise` by it, at teachers that you do not know, then trains the students.
# 2. `sample`: inputs of your own, without `sublim_theory.noise` and without digits. A student must learn more from them
#    than half way from real digits to uniform noise.
#
# Then: `sublim exercise check why_noise_works.py`

# %%
# sublim exercise: why_noise_works   (leave this line as it is)
import jax
import jax.numpy as jnp

import sublim_theory as st

# %% [markdown]
# `net.apply(params, x)` gives all 13 logits; the student imitates `net.auxiliary_logits(...)` of the teacher by the KL
# divergence of their softmax (`st.losses.kl_divergence`, one value an example). It starts at `reference`; `teacher` is
# the trained teacher, which started there too. You may use all of `sublim_theory` but its training.


# %%
def score(net, reference, teacher, inputs):
    """One number for inputs [count, features]: the larger, the more a student will learn from them."""
    raise NotImplementedError("TODO")


# %%
def sample(key, count, features):
    """Images [count, features] of your own, from the key alone."""
    raise NotImplementedError("TODO")


# %% [markdown]
# A teacher to try them on, and two sets of inputs.

# %%
if __name__ == "__main__":
    digits = st.data.load("digits")
    net = st.networks.mlp(digits.features, hidden=(64, 64), activation="tanh")
    key = st.ensemble.seed_key(0)
    reference = net.init(st.ensemble.stream(key, "init"))
    adam = st.optimizers.optimizer("adam", 3e-3)
    batches = st.training.schedule(st.ensemble.stream(key, "teacher"), len(digits.train_x), batch_size=128, epochs=20)
    teacher = st.training.train_teacher(net, reference, digits.train_x, digits.train_y, adam, batches).params
    print("teacher:", st.training.accuracy(net, teacher, digits.test_x, digits.test_y))
    for name in ("uniform", "images"):
        inputs = st.noise.sampler(name, images=digits.train_x)(jax.random.key(1), 500, digits.features)
        print(name, "mean square of a pixel:", jnp.mean(jnp.square(inputs)))
        print(name, "score:", score(net, reference, teacher, inputs))
