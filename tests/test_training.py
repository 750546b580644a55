"""Training against numpy: hand-written forward and backward passes, and optimisers by their update rules."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from sublim_theory import losses, training
from sublim_theory.networks import mlp
from sublim_theory.optimizers import optimizer
from sublim_theory.training import NonFiniteLossError, Schedule, accuracy, distil, fit, train_teacher

KEY = jax.random.key(20250714)
NET = mlp(4, (6, 5), classes=3, auxiliary=2)
ROWS, BATCH, EPOCHS = 7, 4, 3  # two updates an epoch, the second of three rows


def params_of(seed, net=NET):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), jax.eval_shape(net.init, KEY))


def same_bits(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def assert_close(a, b, **tolerance):
    jax.tree.map(partial(np.testing.assert_allclose, **tolerance), a, b)


IMAGES = np.random.default_rng(0).uniform(-1, 1, (ROWS, 4)).astype(np.float32)
LABELS = np.array([0, 2, 1, 1, 0, 2, 2])


def made_by_hand():
    """A schedule that no code of the library made; in every second update one row is padding, and a wrong one."""
    rng = np.random.default_rng(5)
    orders = [np.append(rng.permutation(ROWS), 6).reshape(2, BATCH) for _ in range(EPOCHS)]
    weights = np.ones((2, BATCH), np.float32)
    weights[1, -1] = 0
    return Schedule(np.concatenate(orders).astype(np.int32), np.tile(weights, (EPOCHS, 1)))


BATCHES = made_by_hand()


# The oracle: float64 numpy with its own backward pass


def forward(params, x):
    """Activations of every layer, the inputs first, and the logits, of `NET`."""
    layers = [x]
    for name in "hidden_0", "hidden_1":
        layers.append(np.maximum(layers[-1] @ params[name]["kernel"] + params[name]["bias"], 0))
    heads = [layers[-1] @ params[name]["kernel"] + params[name]["bias"] for name in ("class_head", "auxiliary_head")]
    return layers, np.hstack(heads)


def backward(params, layers, slopes):
    """Gradient in the parameters, given the slopes of the loss in the logits."""

    def of_layer(x, slopes):
        return {"kernel": x.T @ slopes, "bias": slopes.sum(0)}

    classes, auxiliary = slopes[:, :3], slopes[:, 3:]
    gradient = {"class_head": of_layer(layers[2], classes), "auxiliary_head": of_layer(layers[2], auxiliary)}
    back = classes @ params["class_head"]["kernel"].T + auxiliary @ params["auxiliary_head"]["kernel"].T
    for i in (1, 0):
        back = back * (layers[i + 1] > 0)
        gradient[f"hidden_{i}"] = of_layer(layers[i], back)
        back = back @ params[f"hidden_{i}"]["kernel"].T
    return gradient


def numpy_sgd(rate, momentum=0.0):
    def step(i, params, gradient, memory):
        del i
        memory = gradient if memory is None else jax.tree.map(lambda m, g: momentum * m + g, memory, gradient)
        return jax.tree.map(lambda p, m: p - rate * m, params, memory), memory

    return step


def numpy_adam(rate, decay=0.0):
    def step(i, params, gradient, memory):
        zeros = jax.tree.map(np.zeros_like, params)
        first, second = memory or (zeros, zeros)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
        a, b = 1 - 0.9 ** (i + 1), 1 - 0.999 ** (i + 1)
        new = jax.tree.map(
            lambda p, m, v: p - rate * (m / a / (np.sqrt(v / b) + 1e-8) + decay * p), params, first, second
        )
        return new, (first, second)

    return step


RULES = {
    "sgd": (optimizer("sgd", 0.1), numpy_sgd(0.1)),
    "momentum": (optimizer("sgd", 0.05, momentum=0.9), numpy_sgd(0.05, 0.9)),
    "adam": (optimizer("adam", 0.03), numpy_adam(0.03)),
    "adamw": (optimizer("adamw", 0.03, weight_decay=0.2), numpy_adam(0.03, 0.2)),
}


def numpy_fit(params, batches, rule, loss_and_slopes):
    """Train with `loss_and_slopes(rows, logits)`, per example; padding is left out rather than weighted."""
    params, memory, means = jax.tree.map(np.float64, params), None, []
    for i, (rows, weights) in enumerate(zip(*batches, strict=True)):
        rows = rows[weights > 0]
        layers, logits = forward(params, IMAGES[rows].astype(np.float64))
        loss, slopes = loss_and_slopes(rows, logits)
        means.append(loss.mean())
        params, memory = rule(i, params, backward(params, layers, slopes / len(rows)), memory)
    return params, means


def label_loss(rows, logits):
    slopes = np.zeros_like(logits)
    slopes[:, :3] = special.softmax(logits[:, :3], -1) - np.eye(3)[LABELS[rows]]
    return -special.log_softmax(logits[:, :3], -1)[np.arange(len(rows)), LABELS[rows]], slopes


def kl_loss(teacher_logits, part, rows, logits):
    q, p = special.softmax(logits[:, part], -1), special.softmax(teacher_logits[rows, part], -1)
    slopes = np.zeros_like(logits)
    slopes[:, part] = q - p
    return special.rel_entr(p, q).sum(-1), slopes


# What the library makes of the same settings, each compiled once


def teach(rule, batches=BATCHES):
    run = jax.jit(lambda params, x, y, batches: train_teacher(NET, params, x, y, rule, batches))
    return run(params_of(1), IMAGES, LABELS, batches)


def learn(rule, students):
    names = {name: loss for name, (_, loss) in students.items()}

    @jax.jit
    def run(teacher, starts, images, batches):
        return distil(NET, teacher, {name: (starts[name], names[name]) for name in names}, images, rule, batches)

    return run(params_of(1), {name: start for name, (start, _) in students.items()}, IMAGES, BATCHES)


teacher_by = functools.cache(lambda name: teach(RULES[name][0]))
students_by = functools.cache(lambda name: learn(RULES[name][0], STUDENTS))

PARTS = {"own aux": NET.auxiliary, "own all": NET.all_logits, "other aux": NET.auxiliary, "other all": NET.all_logits}
STUDENTS = {
    name: (params_of(2 if "own" in name else 3), losses.on_logits(losses.kl_divergence, part))
    for name, part in PARTS.items()
}


# Fit


@pytest.mark.parametrize("name", RULES)
def test_teacher_is_trained_as_in_numpy(name):
    params, means = numpy_fit(params_of(1), BATCHES, RULES[name][1], label_loss)
    np.testing.assert_allclose(teacher_by(name).losses, means, rtol=1e-4)
    assert_close(teacher_by(name).params, params, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_students_are_distilled_as_in_numpy(name):
    teacher_logits = forward(jax.tree.map(np.float64, params_of(1)), IMAGES.astype(np.float64))[1]
    for student, part in PARTS.items():
        loss = partial(kl_loss, teacher_logits, part)
        params, means = numpy_fit(STUDENTS[student][0], BATCHES, RULES[name][1], loss)
        np.testing.assert_allclose(students_by(name).losses[student], means, rtol=1e-4, atol=1e-6)
        assert_close(students_by(name).params[student], params, rtol=1e-4, atol=1e-5)


def test_one_step_on_a_short_batch_follows_the_mean_over_the_rows_that_count():
    short = Schedule(*(leaf[1:2] for leaf in BATCHES))
    params, _ = numpy_fit(params_of(1), short, numpy_sgd(1.0), label_loss)
    assert_close(teach(optimizer("sgd", 1.0), short).params, params, rtol=1e-5, atol=1e-6)


def test_fit_is_a_plain_loop_of_optax():
    """Two leaves of losses with a parameter in both, data as a dict, a rule with state."""
    rule = optax.adam(0.1)
    data = {"x": IMAGES, "y": IMAGES[:, 0] ** 2}
    start = {"w": jnp.ones(4), "b": jnp.zeros(())}

    def objective(params, batch):
        prediction = batch["x"] @ params["w"] + params["b"]
        return {"fit": (prediction - batch["y"]) ** 2, "size": params["b"] ** 2 + jnp.abs(prediction)}

    result = jax.jit(lambda start, data, batches: fit(objective, start, rule, data, batches))(start, data, BATCHES)

    @jax.jit
    def update(params, state, batch):
        def mean_losses(params):
            means = jax.tree.map(jnp.mean, objective(params, batch))
            return means["fit"] + means["size"], means

        gradient, means = jax.grad(mean_losses, has_aux=True)(params)
        updates, state = rule.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, means

    params, state, means = start, jax.jit(rule.init)(start), []
    for rows, weights in zip(*BATCHES, strict=True):
        real = rows[weights > 0]
        params, state, now = update(params, state, {name: leaf[real] for name, leaf in data.items()})
        means.append(now)
    assert_close(result.params, params, rtol=1e-5, atol=1e-6)
    assert_close(result.losses, jax.tree.map(lambda *steps: np.stack(steps), *means), rtol=1e-5, atol=1e-6)


# Who learns from whom


def test_a_student_beside_three_others_is_the_student_alone():
    alone = learn(RULES["adam"][0], {"own aux": STUDENTS["own aux"]})
    # Not bit-equal by contract: another fusion of the larger program may round differently.
    assert_close(students_by("adam").params["own aux"], alone.params["own aux"], rtol=1e-5, atol=1e-6)
    assert_close(students_by("adam").losses["own aux"], alone.losses["own aux"], rtol=1e-5, atol=1e-6)


def test_students_do_not_share_a_rule_that_looks_at_all_gradients():
    rule = optax.chain(optax.clip_by_global_norm(1e-2), optax.sgd(1.0))
    steep = {"steep": (jax.tree.map(lambda leaf: 10 * leaf, params_of(4)), losses.squared_error)}
    calm = {"calm": STUDENTS["own aux"]}
    together, alone = learn(rule, steep | calm), learn(rule, calm)
    assert_close(together.params["calm"], alone.params["calm"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_class_head_of_an_auxiliary_student_does_not_move_at_all(name):
    start, student = STUDENTS["own aux"][0], students_by(name).params["own aux"]
    assert same_bits(student["class_head"], start["class_head"])
    assert not any(same_bits(student[layer], start[layer]) for layer in ("hidden_0", "hidden_1", "auxiliary_head"))


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_auxiliary_head_of_a_teacher_does_not_move_at_all(name):
    start, teacher = params_of(1), teacher_by(name).params
    assert same_bits(teacher["auxiliary_head"], start["auxiliary_head"])
    assert not any(same_bits(teacher[layer], start[layer]) for layer in ("hidden_0", "hidden_1", "class_head"))


def test_weight_decay_is_decoupled_so_an_idle_head_shrinks_by_its_factor_only():
    start, student = STUDENTS["own aux"][0], students_by("adamw").params["own aux"]
    factor = (1 - 0.03 * 0.2) ** (2 * EPOCHS)
    assert_close(student["class_head"], jax.tree.map(lambda leaf: factor * leaf, start["class_head"]), rtol=1e-6)


# Schedules


@pytest.fixture(scope="module")
def papers_schedule():
    return jax.tree.map(np.asarray, training.schedule(KEY, 60_000, batch_size=1024, epochs=5))


def test_the_papers_schedule_has_59_updates_an_epoch_and_295_in_all(papers_schedule):
    assert training.steps_per_epoch(60_000, 1024) == 59
    assert papers_schedule.indices.shape == papers_schedule.weights.shape == (295, 1024)
    assert papers_schedule.indices.dtype == np.int32
    assert papers_schedule.weights.dtype == np.float32


def test_the_last_batch_of_every_epoch_has_608_rows_and_every_other_1024(papers_schedule):
    assert set(papers_schedule.weights.ravel()) == {0, 1}
    counts = papers_schedule.weights.sum(axis=1).reshape(5, 59)
    assert np.all(counts[:, -1] == 608)
    assert np.all(counts[:, :-1] == 1024)


def test_every_epoch_sees_every_row_once_in_an_order_of_its_own(papers_schedule):
    indices, weights = (leaf.reshape(5, -1) for leaf in papers_schedule)
    assert indices.min() >= 0
    assert indices.max() < 60_000  # the padding points at rows that exist, too
    orders = [row[real > 0] for row, real in zip(indices, weights, strict=True)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(60_000))
    for first, second in zip([np.arange(60_000), *orders], [*orders, np.arange(60_000)], strict=True):
        assert np.mean(first == second) < 1e-3


def test_a_schedule_is_its_keys():
    plan = jax.jit(partial(training.schedule, examples=20, batch_size=6, epochs=2))
    assert same_bits(plan(KEY), plan(KEY))
    assert not same_bits(plan(KEY), plan(jax.random.fold_in(KEY, 1)))


@pytest.mark.parametrize(
    ("examples", "batch_size", "shape", "padding"),
    [(5, 8, (2, 5), 0), (6, 3, (4, 3), 0), (7, 3, (6, 3), 4), (3, 1, (6, 1), 0)],
)
def test_batches_of_small_sets(examples, batch_size, shape, padding):
    indices, weights = training.schedule(KEY, examples, batch_size=batch_size, epochs=2)
    assert indices.shape == weights.shape == shape
    assert np.sum(weights == 0) == padding
    np.testing.assert_array_equal(np.bincount(np.asarray(indices)[np.asarray(weights) > 0]), np.full(examples, 2))
    assert training.steps_per_epoch(examples, batch_size) == shape[0] // 2


@pytest.mark.parametrize("name", ["examples", "batch_size", "epochs"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_schedule_names_the_number_that_is_wrong(name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
        training.schedule(KEY, **{"examples": 5, "batch_size": 2, "epochs": 1, name: value})


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["examples", "batch_size", "epochs"])
@pytest.mark.parametrize("value", [np.int64(0), jnp.int32(-1), 2.5, np.float32(2), True, np.nan])
def test_a_schedule_takes_positive_whole_numbers_alone(name, value):
    with pytest.raises(ValueError, match=f"{name} must be (at least 1|a whole number), got"):
        training.schedule(KEY, **{"examples": 5, "batch_size": 2, "epochs": 1, name: value})


def test_a_schedule_takes_whole_numbers_of_any_type():
    found = training.schedule(KEY, np.int64(7), batch_size=jnp.int32(4), epochs=np.array(2))
    assert same_bits(found, training.schedule(KEY, 7, batch_size=4, epochs=2))
    assert training.steps_per_epoch(np.int32(7), 4) == 2


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("every", [0, np.int64(0), 1.5])
def test_measurements_are_a_positive_whole_number_of_updates_apart(every):
    with pytest.raises(ValueError, match="every must be"):
        fit(lambda p, batch: p * batch, jnp.float32(1), optax.sgd(0.1), IMAGES[:, 0], BATCHES, every=every)


# Labels


@pytest.mark.parametrize("kind", [np.array, jnp.array, np.int8], ids=["numpy", "jax", "small"])
@pytest.mark.parametrize("bad", [3, -1])
def test_labels_that_are_no_classes_are_refused_before_training(kind, bad):
    wrong = LABELS.copy()
    wrong[5] = bad
    with pytest.raises(ValueError, match=f"labels must be from 0 to 2, .*, got {bad} in place 5"):
        train_teacher(NET, params_of(1), IMAGES, kind(wrong), RULES["sgd"][0], BATCHES)


@pytest.mark.parametrize("wrong", [LABELS[:-1], np.eye(3, dtype=np.int32)[LABELS], LABELS.astype(np.float32)])
def test_labels_are_one_whole_number_an_image(wrong):
    with pytest.raises(ValueError, match=r"labels must be (one for each of the 7 images|whole numbers)"):
        train_teacher(NET, params_of(1), IMAGES, wrong, RULES["sgd"][0], BATCHES)


# Optimisers


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("number", [np.float32, jnp.float32, np.array], ids=["numpy", "jax", "array"])
@pytest.mark.parametrize(
    ("name", "setting", "bad"),
    [("adam", "learning_rate", -1e-3), ("sgd", "momentum", 1.0), ("adamw", "weight_decay", -1.0)],
)
def test_settings_of_optimisers_are_checked_whatever_their_type(name, setting, bad, number):
    for value in (bad, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"{setting} must be"):
            optimizer(name, **{"learning_rate": 0.1, setting: number(value)})
    for value in ("0.1", True, np.ones(2)):
        with pytest.raises(ValueError, match=f"{setting} must be a number"):
            optimizer(name, **{"learning_rate": 0.1, setting: value})
    rule = optimizer(name, **{"learning_rate": number(0.25), setting: number(0.5)})
    assert changes(rule, [1, 2], 3.0) == changes(optimizer(name, **{"learning_rate": 0.25, setting: 0.5}), [1, 2], 3.0)


def changes(rule, gradients, start=0.0):
    """Value of one parameter after each update of the given gradients."""
    value, values = jnp.float32(start), []
    state = rule.init(value)
    for gradient in gradients:
        update, state = rule.update(jnp.float32(gradient), state, value)
        value = optax.apply_updates(value, update)
        values.append(float(value))
    return values


@pytest.mark.parametrize(
    ("rule", "gradients", "start", "values"),
    [
        # Bias-corrected moments after gradients 1, 0: 0.09 / 0.19 and 0.000999 / 0.001999.
        (optimizer("adam", 0.1), [1, 0], 0, [-0.1, -0.1 - 0.1 * (0.09 / 0.19) / (0.000999 / 0.001999) ** 0.5]),
        # A gradient as small as epsilon = 1e-8 moves half a step.
        (optimizer("adam", 0.1), [1e-8], 0, [-0.05]),
        (optimizer("adamw", 0.1, weight_decay=0.5), [1], 4, [4 - 0.1 * (1 + 0.5 * 4)]),
        (optimizer("adamw", 0.1), [1], 4, [3.9]),
        (optimizer("sgd", 0.1), [1, 2], 0, [-0.1, -0.3]),
        (optimizer("sgd", 0.1, momentum=0.9), [1, 1, 0], 0, [-0.1, -0.1 - 0.19, -0.29 - 0.171]),
    ],
)
def test_updates_by_hand(rule, gradients, start, values):
    np.testing.assert_allclose(changes(rule, gradients, start), values, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "rate", "settings", "message"),
    [
        ("adma", 0.1, {}, "unknown optimizer 'adma'; did you mean 'adam'"),
        ("lbfgs", 0.1, {}, "'lbfgs'.* choose from: adam, adamw, adam_l2, sgd"),
        ("adam", 0.0, {}, "learning_rate must be positive and finite, got 0"),
        ("adam", -1.0, {}, "learning_rate .* got -1"),
        ("sgd", float("nan"), {}, "learning_rate .* got nan"),
        ("sgd", float("inf"), {}, "learning_rate .* got inf"),
        ("sgd", 0.1, {"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1"),
        ("sgd", 0.1, {"momentum": -0.1}, "momentum .* got -0.1"),
        ("sgd", 0.1, {"momentum": float("nan")}, "momentum .* got nan"),
        ("adam", 0.1, {"momentum": 0.9}, "momentum is for 'sgd', not 'adam'"),
        ("adamw", 0.1, {"weight_decay": -0.1}, "weight_decay must be at least 0.*, got -0.1"),
        ("adamw", 0.1, {"weight_decay": float("nan")}, "weight_decay .* got nan"),
        ("adamw", 0.1, {"weight_decay": float("inf")}, "weight_decay .* got inf"),
        ("adam", 0.1, {"weight_decay": 0.1}, "weight_decay is for 'adamw' and 'adam_l2', not 'adam'"),
        ("sgd", 0.1, {"weight_decay": 0.1}, "weight_decay is for 'adamw' and 'adam_l2', not 'sgd'"),
    ],
)
def test_optimizer_names_the_wrong_setting(name, rate, settings, message):
    with pytest.raises(ValueError, match=message):
        optimizer(name, rate, **settings)


@pytest.mark.parametrize("name", RULES)
def test_training_promotes_nothing_without_a_word(name):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        strict = teach(RULES[name][0])
    assert_close(strict.params, teacher_by(name).params, rtol=1e-6)


# Losses that blow up


def test_divergence_names_run_seed_step_and_config():
    values = np.asarray(learn(optimizer("sgd", 1e12), {"s": (params_of(2), losses.squared_error)}).losses["s"])
    first = next(step for step, value in enumerate(values) if not np.isfinite(value))
    assert first > 0
    finite = np.zeros_like(values)
    with pytest.raises(NonFiniteLossError) as caught:
        training.require_finite(
            {"teacher": np.stack([finite, finite]), "student": np.stack([finite, values])}, [40, 41], {"rate": 1e12}
        )
    assert (caught.value.run, caught.value.seed, caught.value.step) == ("student", 41, first)
    for part in "student", "seed 41", f"step {first}", str(float(values[first])), str({"rate": 1e12}):
        assert part in str(caught.value)
    assert isinstance(caught.value, FloatingPointError)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_bad_step_of_the_first_bad_seed_is_named(bad):
    values = np.ones((3, 6), np.float32)
    values[1, 4:], values[2, 0] = bad, bad
    with pytest.raises(NonFiniteLossError) as caught:
        training.require_finite({"teacher": values}, [7, 8, 9], None)
    assert (caught.value.run, caught.value.seed, caught.value.step) == ("teacher", 8, 4)


def test_finite_losses_pass():
    assert training.require_finite({"teacher": np.full((2, 3), 1e38, np.float32)}, [0, 1], None) is None


# Accuracy


@pytest.mark.parametrize("auxiliary_bias", [0, 1e3], ids=["", "largest logit is auxiliary"])
def test_accuracy_is_the_share_of_class_argmaxes(auxiliary_bias):
    params = params_of(1)
    params["auxiliary_head"]["bias"] += np.float32(auxiliary_bias)
    x = np.random.default_rng(3).normal(size=(200, 4)).astype(np.float32)
    targets = np.random.default_rng(4).integers(0, 3, 200)
    logits = forward(params, x)[1]
    share = accuracy(NET, params, x, targets)
    assert share.shape == ()
    assert share.dtype == np.float32
    assert float(share) == pytest.approx(np.mean(logits[:, :3].argmax(1) == targets), abs=1e-6)
    assert 0.2 < float(share) < 0.5
    assert float(accuracy(NET, params, x, logits[:, :3].argmax(1))) == 1
    assert float(accuracy(NET, params, x, logits[:, :3].argmin(1))) == 0
