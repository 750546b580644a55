# %%
# sublim exercise: predict_transfer
import optax

from sublim_theory import geometry, theorem

# %% [markdown]
# Coverage (arXiv 2606.22019), the cosine of the student's first update with the teacher's whole displacement, says
# which way the student sets out. It says nothing of how far it will go in a fixed number of updates of Adam, which is
# in proportion to the learning rate: so the product of the two.


# %%
def predict(*, net, reference, teacher, student, noise, loss, learning_rate):
    displacement = optax.tree.sub(teacher, reference)
    update = theorem.imitation_update(net.apply, loss, student, teacher, noise[:500])
    return learning_rate * geometry.cosine(update, displacement)
