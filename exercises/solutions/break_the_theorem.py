# %%
# sublim exercise: break_the_theorem
import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory.theorem import verify


# %%
def sound(seed=0):
    """Four inputs, eight hidden units, two classes and three auxiliary outputs that the student imitates."""
    rng = np.random.default_rng(seed)
    params = draw(rng)
    x, y = rng.normal(size=(30, 4)), rng.integers(0, 2, 30)

    def f(params, x):
        return jnp.tanh(x @ params["hidden"]) @ params["head"]

    def teacher_loss(params):
        return -jnp.mean(jax.nn.log_softmax(f(params, x)[:, :2])[jnp.arange(30), y])

    inputs = rng.normal(size=(30, 4))
    return {"f": f, "params": params, "teacher_loss": teacher_loss, "inputs": inputs, "logits": [2, 3, 4]}


def draw(rng):
    return {"hidden": rng.normal(size=(4, 8)) / 2, "head": rng.normal(size=(8, 5)) / 3}


# %% [markdown]
# To leading order the student imitates the *untrained* teacher, whatever the trait: where that leads is a coin toss.


# %%
def another_initialisation():
    starts = (draw(np.random.default_rng(seed)) for seed in range(1, 50))
    instances = ({**sound(), "student_params": start} for start in starts)
    return next(each for each in instances if verify(**each).alignment[0] < 0)


# %% [markdown]
# The loss must have a minimum at z = y. With a maximum there the student flees from the labels, and so from the trait.


# %%
def violating_loss():
    def away(student_outputs, labels):
        return -jnp.sum((student_outputs - labels) ** 2, axis=-1)

    return {**sound(), "imitation_loss": away}


# %% [markdown]
# A softmax over one output is 1, whatever the output: no gradient, in any network.


# %%
def exact_zero():
    return {**sound(), "logits": [2]}


# %% [markdown]
# The hidden units saturate at a large step, and the labels no longer say which way the teacher went.


# %%
def too_large_epsilon():
    for seed in range(50):
        instance, sizes = sound(seed), (1e-6, 30.0, 100.0, 300.0, 1000.0)
        report = verify(**instance, epsilons=sizes)
        for size, alignment in zip(report.epsilons, report.alignment, strict=True):
            if alignment < 0:
                return {**instance, "epsilon": size}
    raise ValueError("no such seed")
