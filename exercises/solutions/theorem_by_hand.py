# %%
# sublim exercise: theorem_by_hand
import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)


# %%
def student_update(f, params, teacher_params, inputs, loss, logits):
    """The labels are constants of the student's loss, which is a mean over the inputs of a sum over the outputs."""
    labels = f(teacher_params, inputs)[:, logits]

    def imitation(student):
        outputs = f(student, inputs)[:, logits]
        if loss == "squared_error":
            each = jnp.sum((outputs - labels) ** 2, axis=1)
        else:
            each = -jnp.sum(jax.nn.softmax(labels) * jax.nn.log_softmax(outputs), axis=1)
        return jnp.mean(each)

    return jax.tree.map(jnp.negative, jax.grad(imitation)(params))


# %%
def alignment(f, params, teacher_loss, epsilon, inputs, loss, logits):
    """The inner product of the two updates, leaf by leaf."""
    d_teacher = jax.tree.map(jnp.negative, jax.grad(teacher_loss)(params))
    teacher = jax.tree.map(lambda p, d: p + epsilon * d, params, d_teacher)
    d_student = student_update(f, params, teacher, inputs, loss, logits)
    return sum(jnp.vdot(s, t) for s, t in zip(jax.tree.leaves(d_student), jax.tree.leaves(d_teacher), strict=True))
