# %% [markdown]
# # Break the theorem
#
# Theorem 1 (Cloud et al., arXiv 2507.14805): if teacher and student start at the same parameters, the teacher takes a
# small step down any loss, and the student takes a step down a suitable imitation loss on any inputs, then either the
# two updates are orthogonal whatever the teacher's step, or the student's step lowers the teacher's loss as well.
#
# A theorem is understood when one knows what each of its hypotheses is for. **The task.** Four functions, each of which
# returns an instance for `sublim_theory.theorem.verify` as a dict of its arguments: `f`, `params`, `teacher_loss`,
# `inputs`, and where they are needed `imitation_loss`, `logits`, `student_params`. (At most 10,000 parameters and 1,000
# inputs; everything is computed in float64.) In each *one* thing is at fault: with that put right, the theorem holds.
# Then: `sublim exercise check break_the_theorem.py`

# %%
# sublim exercise: break_the_theorem   (leave this line as it is)
import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory.theorem import verify

# %% [markdown]
# An instance on which the theorem holds, to start from.


# %%
def sound(seed=0):
    """Four inputs, eight hidden units, two classes and three auxiliary outputs that the student imitates."""
    rng = np.random.default_rng(seed)
    params = {"hidden": rng.normal(size=(4, 8)) / 2, "head": rng.normal(size=(8, 5)) / 3}
    x, y = rng.normal(size=(30, 4)), rng.integers(0, 2, 30)

    def f(params, x):
        return jnp.tanh(x @ params["hidden"]) @ params["head"]

    def teacher_loss(params):
        return -jnp.mean(jax.nn.log_softmax(f(params, x)[:, :2])[jnp.arange(30), y])

    return {
        "f": f,
        "params": params,
        "teacher_loss": teacher_loss,
        "inputs": rng.normal(size=(30, 4)),
        "logits": [2, 3, 4],
    }


if __name__ == "__main__":
    print(verify(**sound()))

# %% [markdown]
# **1. Another initialisation.** With `student_params` the student goes *against* the teacher: its update has a negative
# inner product with the teacher's at every small $\varepsilon$, and its (small) step raises the teacher's loss.


# %%
def another_initialisation():
    """An instance with `student_params`."""
    raise NotImplementedError("TODO")


# %% [markdown]
# **2. A loss that violates the hypotheses.** One start for both, but an `imitation_loss(student_outputs, labels)` of
# your own, one value an example, with which the student goes against the teacher at every small $\varepsilon$.


# %%
def violating_loss():
    """An instance with an `imitation_loss` of your own; with "squared_error" in its place the theorem holds."""
    raise NotImplementedError("TODO")


# %% [markdown]
# **3. An exact zero.** Within the theorem, on its orthogonal branch: $d_S \cdot d_T$ is the number 0.0 at every
# $\varepsilon$, by structure and not by cancellation, although the teacher moves and the outputs can move too.


# %%
def exact_zero():
    """An instance on the orthogonal branch, exactly."""
    raise NotImplementedError("TODO")


# %% [markdown]
# **4. Too large a step.** The theorem holds on the instance; but at a teacher's step of size `epsilon`, one more entry
# of the dict, at most 1000, the student goes against the teacher.


# %%
def too_large_epsilon():
    """An instance on which the theorem holds, with an `epsilon` at which its conclusion does not."""
    raise NotImplementedError("TODO")


# %% [markdown]
# `print(verify(**instance))` shows what an instance does; the sizes of the teacher's step are its argument `epsilons`.

# %%
if __name__ == "__main__":
    print(verify(**another_initialisation(), alpha=1e-4))
