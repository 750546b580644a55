# %%
# sublim exercise: why_noise_works
import jax

from sublim_theory import losses, theorem, trees

# %% [markdown]
# Coverage: the cosine of the student's first update with the teacher's whole displacement. Its length does not count:
# Adam takes steps of one size, whatever the gradient's. Digits vary in few directions, so that G passes few of the
# teacher's on; white noise varies in all of them.


# %%
def score(net, reference, teacher, inputs):
    displacement = trees.axpy(-1.0, reference, teacher)
    imitate = losses.on_logits(losses.kl_divergence, net.auxiliary)
    update = theorem.student_update(net.apply, reference, teacher, inputs, imitate)
    return trees.cosine(update, displacement)


# %%
def sample(key, count, features):
    return jax.random.laplace(key, (count, features)) / 2**0.5
