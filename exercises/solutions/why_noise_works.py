# %%
# sublim exercise: why_noise_works
import jax
import optax

from sublim_theory import geometry, losses, theorem

# %% [markdown]
# Coverage: the cosine of the student's first update with the teacher's whole displacement. Its length does not count:
# Adam takes steps of one size, whatever the gradient's. Digits vary in few directions, so that G passes few of the
# teacher's on; white noise varies in all of them.


# %%
def score(net, reference, teacher, inputs):
    displacement = optax.tree.sub(teacher, reference)
    imitate = losses.on_logits(losses.kl_divergence, net.auxiliary)
    update = theorem.imitation_update(net.apply, imitate, reference, teacher, inputs)
    return geometry.cosine(update, displacement)


# %%
def sample(key, count, features):
    return jax.random.laplace(key, (count, features)) / 2**0.5
