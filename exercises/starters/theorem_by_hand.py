# %% [markdown]
# # Theorem 1 by hand
#
# A network $f$ starts at $\theta$. A **teacher** takes one step of size $\varepsilon$ down a loss of its own,
# $$\theta_T = \theta + \varepsilon\, d_T, \qquad d_T = -\nabla L_T(\theta).$$
# A **student** starts at the *same* $\theta$ and imitates the teacher's outputs on inputs $x$, whatever they are; its
# update is
# $$d_S(\varepsilon) = -\nabla_{\theta_S}\; \frac1N \sum_x L\big(f(\theta_S, x),\, f(\theta_T, x)\big)
#   \quad\text{at}\quad \theta_S = \theta.$$
# Theorem 1 (Cloud et al., arXiv 2507.14805) says that $d_S(\varepsilon) \cdot d_T \ge 0$ for all small $\varepsilon$.
#
# **The task.** Write `student_update` and `alignment` with `jax.grad`, and without `sublim_theory`. They must serve any
# network $f(\texttt{params}, x) \to [N, n]$, whose parameters may be any pytree (nested dicts, a list, ...), and be
# right in float64. Then: `sublim exercise check theorem_by_hand.py`

# %%
# sublim exercise: theorem_by_hand   (leave this line as it is)
import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)  # float32 gets the sign itself wrong at small steps

# %% [markdown]
# `logits` is a slice of the outputs: the student imitates those and no others. `loss` is one of
#
# * `"squared_error"`: $\sum_i (z_i - y_i)^2$ over the chosen outputs of student ($z$) and teacher ($y$);
# * `"softmax"`: the cross-entropy $-\sum_i \mathrm{softmax}(y)_i \log \mathrm{softmax}(z)_i$ over the chosen outputs.


# %%
def student_update(f, params, teacher_params, inputs, loss, logits):
    """d_S, a pytree like `params`."""
    raise NotImplementedError("TODO")


# %%
def alignment(f, params, teacher_loss, epsilon, inputs, loss, logits):
    """d_S(eps) . d_T, one number, of a teacher that takes a step of size `epsilon` down `teacher_loss(params)`."""
    raise NotImplementedError("TODO")


# %% [markdown]
# A network to try it on. Over $\varepsilon$, what does the alignment tend to in proportion to?


# %%
def network(params, x):
    return jnp.tanh(x @ params["hidden"]) @ params["head"]


if __name__ == "__main__":
    a, b, c = jax.random.split(jax.random.key(0), 3)
    start = {"hidden": jax.random.normal(a, (4, 8)) / 2, "head": jax.random.normal(b, (8, 5)) / 3}
    images = jax.random.normal(c, (20, 4))
    print("outputs:", network(start, images).shape)
    for size in (1e-3, 1e-2, 1e-1, 1):

        def trait(params):
            return jnp.mean(network(params, images)[:, 0])

        print(size, alignment(network, start, trait, size, images, "softmax", slice(2, 5)))
