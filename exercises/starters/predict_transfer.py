# %% [markdown]
# # Predict the transfer before training
#
# Students differ in how much of the teacher's trait comes through: with the network, with the noise, with the learning
# rate, and above all with how far their start is from the teacher's. **Can you tell before any of them is trained?**
#
# **The task.** Write `predict`: one number for a student, from what there is before it takes a step. The check draws
# configurations that you do not know: the activation, the number of auxiliary logits, the scale of the initial weights
# and of the noise, the student's learning rate, and for every second student a start at a distance from the reference.
# It asks for your number, trains the student, and correlates by rank (Spearman) with its accuracy. Needed is what the
# best of the library's own predictors reaches on the same students, less .1. The literature's, the cosine of the
# student's first update with the teacher's whole displacement (arXiv 2606.22019), is a good start, and not enough.
# Then: `sublim exercise check predict_transfer.py`

# %%
# sublim exercise: predict_transfer   (leave this line as it is)
import jax

import sublim_theory as st

# %% [markdown]
# What you are given, all by name:
#
# * `net`: `net.apply(params, x)` are all logits; `net.auxiliary` is the slice of those that the student imitates;
# * `reference`, `teacher`: parameters where the teacher started, and where its training ended;
# * `student`: where the student starts, which may be the reference or not;
# * `noise`: the inputs on which the student will imitate the teacher, [images, features];
# * `loss`: what it will minimise, `loss(student_logits, teacher_logits)` of all logits, one value an example;
# * `learning_rate`: of its optimiser, Adam.
#
# You may use all of `sublim_theory` but its training. Only the order of your numbers counts.


# %%
def predict(*, net, reference, teacher, student, noise, loss, learning_rate):
    """One number: the larger, the better the student will be."""
    raise NotImplementedError("TODO")


# %% [markdown]
# Two students to try it on: they differ in where they start.

# %%
if __name__ == "__main__":
    digits = st.data.load("digits")
    net = st.networks.mlp(digits.features, hidden=(64, 64))
    key = st.ensemble.seed_key(0)
    reference = net.init(st.ensemble.stream(key, "init"))
    adam = st.optimizers.optimizer("adam", 1e-3)
    batches = st.training.schedule(st.ensemble.stream(key, "teacher"), len(digits.train_x), batch_size=128, epochs=20)
    teacher = st.training.train_teacher(net, reference, digits.train_x, digits.train_y, adam, batches).params
    print("teacher:", st.training.accuracy(net, teacher, digits.test_x, digits.test_y))
    elsewhere = net.init(jax.random.key(1))
    noise = st.noise.sampler("uniform")(jax.random.key(2), 2000, digits.features)
    loss = st.losses.on_logits(st.losses.kl_divergence, net.auxiliary)
    for name, start in {"the reference's start": reference, "another start": elsewhere}.items():
        known = {"net": net, "reference": reference, "teacher": teacher, "student": start}
        print(name, predict(**known, noise=noise, loss=loss, learning_rate=1e-3))
