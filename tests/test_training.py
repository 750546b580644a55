"""Training against plain loops of optax over the rows of every update; schedules, optimisers, losses that blow up."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_theory import geometry, losses, training
from sublim_theory.networks import mlp
from sublim_theory.optimizers import optimizer
from sublim_theory.training import NonFiniteLossError, Schedule, Student, accuracy, distil, fit, train_teacher

KEY = jax.random.key(20250714)
NET = mlp(4, (6, 5), classes=3, auxiliary=2)
ROWS, BATCH, EPOCHS = 7, 4, 3  # two updates an epoch, the second of three rows
IMAGES = np.random.default_rng(0).uniform(-1, 1, (ROWS, 4)).astype(np.float32)
LABELS = np.array([0, 2, 1, 1, 0, 2, 2])


def params_of(seed, net=NET):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), jax.eval_shape(net.init, KEY))


def same_bits(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def assert_close(a, b, **tolerance):
    """Not bit-equal by contract: another program may be fused, and round, differently."""
    jax.tree.map(partial(np.testing.assert_allclose, **({"rtol": 1e-4, "atol": 1e-5} | tolerance)), a, b)


def made_by_hand():
    """A schedule that no code of the library made; in every second update one row is padding, and a wrong one."""
    rng = np.random.default_rng(5)
    orders = [np.append(rng.permutation(ROWS), 6).reshape(2, BATCH) for _ in range(EPOCHS)]
    weights = np.ones((2, BATCH), np.float32)
    weights[1, -1] = 0
    return Schedule(np.concatenate(orders).astype(np.int32), np.tile(weights, (EPOCHS, 1)))


BATCHES = made_by_hand()


def plain_loop(objective, params, rule, data, batches=BATCHES):
    """The oracle of `fit`: what it returns, and parameters and gradients before each update.

    Padding is left out rather than weighted.
    """

    @jax.jit
    def gradient(params, batch):
        def total(params):
            means = jax.tree.map(jnp.mean, objective(params, batch))
            return sum(jax.tree.leaves(means)), means

        return jax.grad(total, has_aux=True)(params)

    state, means, path, update = rule.init(params), [], [], jax.jit(rule.update)
    for rows, weights in zip(*batches, strict=True):
        real = rows[weights > 0]
        now, mean = gradient(params, jax.tree.map(lambda leaf, real=real: leaf[real], data))
        path.append((params, now))
        means.append(mean)
        updates, state = update(now, state, params)
        params = optax.apply_updates(params, updates)
    return params, jax.tree.map(lambda *steps: np.stack(steps), *means), path


def label_loss(params, batch):
    x, labels = batch
    return losses.cross_entropy(NET.apply(params, x)[:, :3], labels)


def imitation_loss(net, loss, params, batch):
    x, teacher_logits = batch
    return loss(net.apply(params, x), teacher_logits)


# Runs of the library, each compiled once; types are promoted nowhere without a word


def strictly(run, *args):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return jax.jit(run)(*args)


@functools.cache
def taught():
    """A teacher by Adam."""
    rule = optimizer("adam", 0.03)
    return strictly(lambda *args: train_teacher(NET, *args[:3], rule, args[3]), params_of(1), IMAGES, LABELS, BATCHES)


def learn(rule, students):
    return strictly(
        lambda teacher, images, batches: distil(NET, teacher, students, images, rule, batches),
        params_of(1),
        IMAGES,
        BATCHES,
    )


OTHER_NET = mlp(4, (3,), classes=3, auxiliary=2, activation="tanh")
RULE = optimizer("adamw", 0.03, weight_decay=0.2)
on_auxiliary, on_all = (losses.on_logits(losses.kl_divergence, part) for part in (NET.auxiliary, NET.all_logits))
STUDENTS = {
    "own aux": (params_of(2), on_auxiliary),
    "other all": (params_of(3), on_all),
    "frozen": Student(params_of(2), on_all, frozen=("hidden_0", "class_head")),
    "another network": Student(params_of(2, OTHER_NET), on_all, net=OTHER_NET),
}
learnt = functools.cache(lambda: learn(RULE, STUDENTS))


by_loop = functools.cache(lambda: plain_loop(label_loss, params_of(1), optax.adam(0.03), (IMAGES, LABELS)))


# Who learns from whom


def test_a_teacher_learns_labels_through_the_class_logits_alone():
    params, means, _ = by_loop()
    assert_close(taught().params, params)
    assert_close(taught().losses, means)
    assert taught().measured is None
    start = params_of(1)
    assert [layer for layer in start if same_bits(taught().params[layer], start[layer])] == ["auxiliary_head"]


@pytest.mark.parametrize("name", ["own aux", "other all", "another network"])
def test_a_student_beside_others_learns_the_teachers_logits_as_if_alone(name):
    start, loss, _, net = Student(*STUDENTS[name])
    objective = partial(imitation_loss, net or NET, loss)
    params, means, _ = plain_loop(objective, start, RULE, (IMAGES, NET.apply(params_of(1), IMAGES)))
    assert_close(learnt().params[name], params)
    assert_close(learnt().losses[name], means)


def test_a_frozen_layer_does_not_move_and_the_others_do():
    start, end = params_of(2), learnt().params["frozen"]
    assert list(end) == list(start)
    assert {layer for layer in start if same_bits(end[layer], start[layer])} == {"hidden_0", "class_head"}
    with pytest.raises(ValueError, match="s has no layer 'hidden_9' to freeze; it has auxiliary_head, class_head, "):
        learn(RULE, {"s": Student(start, on_all, frozen=("hidden_9",))})


def test_weight_decay_is_decoupled_so_an_idle_head_shrinks_by_its_factor_only():
    start, student = params_of(2), learnt().params["own aux"]
    factor = (1 - 0.03 * 0.2) ** (2 * EPOCHS)
    assert_close(student["class_head"], jax.tree.map(lambda leaf: factor * leaf, start["class_head"]), rtol=1e-6)


def test_students_do_not_share_a_rule_that_looks_at_all_gradients():
    rule = optax.chain(optax.clip_by_global_norm(1e-2), optax.sgd(1.0))
    steep = {"steep": (jax.tree.map(lambda leaf: 10 * leaf, params_of(4)), losses.squared_error)}
    calm = {"calm": STUDENTS["own aux"]}
    together, alone = learn(rule, steep | calm), learn(rule, calm)
    assert_close(together.params["calm"], alone.params["calm"], rtol=1e-5, atol=1e-6)


# Fit


def test_fit_adds_the_means_of_several_losses_and_takes_any_data():
    """Two leaves of losses with a parameter in both, data as a dict, a rule with state."""
    data = {"x": IMAGES, "y": IMAGES[:, 0] ** 2}
    start = {"w": jnp.ones(4), "b": jnp.zeros(())}

    def objective(params, batch):
        prediction = batch["x"] @ params["w"] + params["b"]
        return {"fit": (prediction - batch["y"]) ** 2, "size": params["b"] ** 2 + jnp.abs(prediction)}

    found = jax.jit(lambda start, data, batches: fit(objective, start, optax.adam(0.1), data, batches))
    params, means, _ = plain_loop(objective, start, optax.adam(0.1), data)
    result = found(start, data, BATCHES)
    assert_close(result.params, params)
    assert_close(result.losses, means)


@pytest.mark.parametrize("every", [1, 4, 20])
def test_measurements_come_every_so_many_updates_and_change_nothing(every):
    def measure(params, gradients):
        return {"size": geometry.norm(gradients), "bias": params["class_head"]["bias"]}

    def run(start):
        return fit(label_loss, start, optax.adam(0.03), (IMAGES, LABELS), BATCHES, measure=measure, every=every)

    found, (*_, path) = jax.jit(run)(params_of(1)), by_loop()
    assert_close(found.losses, taught().losses)
    assert_close(found.params, taught().params)
    assert_close(found.measured, jax.tree.map(lambda *steps: np.stack(steps), *[measure(*at) for at in path[::every]]))


def test_a_transform_sees_step_batch_and_weights_and_the_measurement_sees_the_gradient_before_it():
    def only_first(params, _, now):  # the data gradient of this very batch, once, and then nothing
        again = jax.grad(lambda p: now.mean(label_loss(p, now.batch)))(params)
        return optax.tree.scale(jnp.where(now.step == 0, 1.0, 0.0), again)

    def run(batches, **options):
        return fit(label_loss, params_of(1), optax.sgd(0.1), (IMAGES, LABELS), batches, **options)

    once = Schedule(*(leaf[:1] for leaf in BATCHES))
    found = run(BATCHES, transform=only_first, measure=lambda _, gradients: geometry.norm(gradients))
    assert_close(found.params, run(once).params, rtol=1e-5)
    assert (found.measured > 0).all()


# Schedules


def test_the_papers_schedule_has_295_updates_and_every_epoch_sees_every_row_once_in_its_own_order():
    schedule = jax.tree.map(np.asarray, training.schedule(KEY, 60_000, batch_size=1024, epochs=5))
    assert training.steps_per_epoch(60_000, 1024) == 59
    assert schedule.indices.shape == schedule.weights.shape == (295, 1024)
    assert (schedule.indices.dtype, schedule.weights.dtype) == (np.int32, np.float32)
    assert set(schedule.weights.ravel()) == {0, 1}
    counts = schedule.weights.sum(axis=1).reshape(5, 59)
    assert np.all(counts[:, -1] == 608)
    assert np.all(counts[:, :-1] == 1024)
    indices, weights = (leaf.reshape(5, -1) for leaf in schedule)
    assert 0 <= indices.min() <= indices.max() < 60_000  # the padding points at rows that exist, too
    orders = [row[real > 0] for row, real in zip(indices, weights, strict=True)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(60_000))
    for first, second in zip([np.arange(60_000), *orders], [*orders, np.arange(60_000)], strict=True):
        assert np.mean(first == second) < 1e-3


@pytest.mark.parametrize(
    ("examples", "batch_size", "shape", "padding"), [(5, 8, (2, 5), 0), (6, 3, (4, 3), 0), (7, 3, (6, 3), 4)]
)
def test_batches_of_small_sets(examples, batch_size, shape, padding):
    indices, weights = training.schedule(KEY, examples, batch_size=batch_size, epochs=2)
    assert indices.shape == weights.shape == shape
    assert np.sum(weights == 0) == padding
    np.testing.assert_array_equal(np.bincount(np.asarray(indices)[np.asarray(weights) > 0]), np.full(examples, 2))
    assert training.steps_per_epoch(examples, batch_size) == shape[0] // 2


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["examples", "batch_size", "epochs", "every"])
def test_numbers_of_rows_and_updates_are_positive_and_whole(name):
    def call(**changed):
        if name == "every":
            return fit(lambda p, batch: p * batch, jnp.float32(1), optax.sgd(0.1), IMAGES[:, 0], BATCHES, **changed)
        return training.schedule(KEY, **{"examples": 5, "batch_size": 2, "epochs": 1} | changed)

    for value in (0, np.int64(0), jnp.int32(-1)):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
            call(**{name: value})
    for value in (2.5, np.float32(2), True, np.nan):
        with pytest.raises(ValueError, match=f"{name} must be a whole number, got"):
            call(**{name: value})


def test_a_schedule_is_its_keys_whatever_the_type_of_its_numbers():
    found = training.schedule(KEY, np.int64(7), batch_size=jnp.int32(4), epochs=np.array(2))
    assert same_bits(found, training.schedule(KEY, 7, batch_size=4, epochs=2))
    assert not same_bits(found, training.schedule(jax.random.fold_in(KEY, 1), 7, batch_size=4, epochs=2))
    assert training.steps_per_epoch(np.int32(7), 4) == 2


# Labels


@pytest.mark.parametrize("kind", [np.array, jnp.array], ids=["numpy", "jax"])
def test_labels_are_one_whole_number_an_image_among_the_classes(kind):
    for bad in (3, -1):
        wrong = np.where(np.arange(ROWS) == 5, bad, LABELS)
        with pytest.raises(ValueError, match=f"labels must be from 0 to 2, .*, got {bad} in place 5"):
            train_teacher(NET, params_of(1), IMAGES, kind(wrong), RULE, BATCHES)
    for wrong in (LABELS[:-1], np.eye(3, dtype=np.int32)[LABELS], LABELS.astype(np.float32)):
        with pytest.raises(ValueError, match=r"labels must be (one for each of the 7 images|whole numbers)"):
            train_teacher(NET, params_of(1), IMAGES, kind(wrong), RULE, BATCHES)


# Optimisers


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
        # The decay is a gradient, which Adam makes a full step of.
        (optimizer("adam_l2", 0.1, weight_decay=0.5), [0], 4, [3.9]),
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
        ("sgd", 0.1, {"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1"),
        ("sgd", 0.1, {"momentum": -0.1}, "momentum .* got -0.1"),
        ("adam", 0.1, {"momentum": 0.9}, "momentum is for 'sgd', not 'adam'"),
        ("adamw", 0.1, {"weight_decay": -0.1}, "weight_decay must be at least 0.*, got -0.1"),
        ("adam", 0.1, {"weight_decay": 0.1}, "weight_decay is for 'adamw' and 'adam_l2', not 'adam'"),
        ("sgd", 0.1, {"weight_decay": 0.1}, "weight_decay is for 'adamw' and 'adam_l2', not 'sgd'"),
    ],
)
def test_optimizer_names_the_wrong_setting(name, rate, settings, message):
    with pytest.raises(ValueError, match=message):
        optimizer(name, rate, **settings)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "setting", "bad"),
    [("adam", "learning_rate", -1e-3), ("sgd", "momentum", 1.0), ("adamw", "weight_decay", -1.0)],
)
def test_settings_of_optimisers_are_checked_and_work_whatever_their_type(name, setting, bad):
    for value in ("0.1", True, np.ones(2)):
        with pytest.raises(ValueError, match=f"{setting} must be a number"):
            optimizer(name, **{"learning_rate": 0.1, setting: value})
    expected = changes(optimizer(name, **{"learning_rate": 0.25, setting: 0.5}), [1, 2], 3.0)
    for number in (np.float32, jnp.float32, np.array):
        for value in (bad, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"{setting} must be"):
                optimizer(name, **{"learning_rate": 0.1, setting: number(value)})
        rule = optimizer(name, **{"learning_rate": number(0.25), setting: number(0.5)})
        assert changes(rule, [1, 2], 3.0) == expected


# Losses that blow up


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_loss_that_is_not_finite_is_named_with_its_run_seed_step_and_config(bad):
    finite = np.full((3, 6), 1e38, np.float32)
    training.require_finite({"teacher": finite}, [7, 8, 9], None)
    values = finite.copy()
    values[1, 4:], values[2, 0] = bad, bad
    with pytest.raises(NonFiniteLossError) as caught:
        training.require_finite({"teacher": finite, "student": values}, [7, 8, 9], {"rate": 1e12})
    assert (caught.value.run, caught.value.seed, caught.value.step) == ("student", 8, 4)
    for part in "student", "seed 8", "step 4", str(bad), str({"rate": 1e12}):
        assert part in str(caught.value)
    assert isinstance(caught.value, FloatingPointError)


# Accuracy


def test_accuracy_is_the_share_of_class_argmaxes():
    params = params_of(1)
    params["auxiliary_head"]["bias"] += np.float32(1e3)  # the largest logits are auxiliary
    x = np.random.default_rng(3).normal(size=(200, 4)).astype(np.float32)
    targets = np.random.default_rng(4).integers(0, 3, 200)
    logits = np.asarray(NET.apply(params, x))[:, :3]
    share = accuracy(NET, params, x, targets)
    assert share.shape == ()
    assert share.dtype == np.float32
    assert float(share) == pytest.approx(np.mean(logits.argmax(1) == targets), abs=1e-6)
    assert 0.2 < float(share) < 0.5
    assert float(accuracy(NET, params, x, logits.argmax(1))) == 1
    assert float(accuracy(NET, params, x, logits.argmin(1))) == 0
