# %%
# sublim exercise: predict_transfer
from sublim_theory import theorem, trees

# %% [markdown]
# Coverage (arXiv 2606.22019), the cosine of the student's first update with the teacher's whole displacement, says
# which way the student sets out. It says nothing of how far it will go in a fixed number of updates of Adam, which is
# in proportion to the learning rate: so the product of the two.


# %%
def predict(*, net, reference, teacher, student, noise, loss, learning_rate):
    displacement = trees.axpy(-1.0, reference, teacher)
    update = theorem.student_update(net.apply, student, teacher, noise[:500], loss)
    return learning_rate * trees.cosine(update, displacement)
