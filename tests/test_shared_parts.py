"""Shared, redrawn and frozen parts, and students of another network."""

import jax
import numpy as np
import pytest
import small

from experiments import shared_parts
from experiments.distillation import Start
from sublim_theory import data, losses, training
from sublim_theory.ensemble import seed_key

SETTINGS = small.settings("shared_parts").but(hidden=(24, 16), groups=shared_parts.GROUPS)
PROTOCOL, RATES = SETTINGS.protocol, SETTINGS.rates
SPLIT = PROTOCOL.select(data.load("digits"))
NET = PROTOCOL.make_network(RATES, SPLIT)
LOSS = losses.on_logits(losses.kl_divergence, NET.auxiliary)


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.fixture(scope="module")
def start():
    """A seed's start, but that its teacher is drawn, not trained."""
    reference, other, teacher = map(jax.jit(NET.init), jax.random.split(jax.random.key(0), 3))
    return Start(seed_key(0), reference, other, training.Fit(teacher, None), None, None)


@pytest.fixture(scope="module")
def students(start):
    made = {}

    @jax.jit
    def initial(start):
        made.update(shared_parts.students_of(PROTOCOL, RATES, SPLIT, start, LOSS))
        return {name: student.params for name, student in made.items()}

    params = initial(start)
    return {name: student._replace(params=params[name]) for name, student in made.items()}


def test_there_is_a_student_for_every_part(students):
    redrawn = ["none", "hidden_0", "hidden_1", "hidden", "class_head", "auxiliary_head", "all"]
    names = [f"redrawn/{part}" for part in redrawn] + ["frozen/class_head", "frozen/auxiliary_head"]
    names += [f"network/{kind}" for kind in ("shallower", "deeper", "narrower", "wider")]
    assert list(students) == PROTOCOL.students() == [*names, "convolutional/3x3"]
    one_layer = SETTINGS.but(hidden=(16,)).protocol
    assert one_layer.other_hidden() == {"deeper": (16, 16)}
    assert one_layer.redrawn() == ["hidden_0", "class_head", "auxiliary_head", "all"]


def test_a_redrawn_part_is_the_next_seeds_and_the_rest_the_reference_bit_for_bit(start, students):
    for name, student in students.items():
        group, _, part = name.partition("/")
        if group == "redrawn":
            for layer, values in student.params.items():
                own = part in ("all", layer) or (part == "hidden" and layer.startswith("hidden"))
                assert same(values, (start.other if own else start.reference)[layer]), (name, layer)


def test_a_frozen_head_has_its_layer_and_that_of_the_classes_changes_nothing_else(start, students, recorded):
    for head in shared_parts.HEADS:
        student = students[f"frozen/{head}"]
        assert student.frozen == (head,)
        assert same(student.params, start.reference)
    record = recorded("shared_parts", small.settings("shared_parts"))
    loss = {name: record.table["student_loss"].sel(student=name).values for name in record.table["student"].values}
    np.testing.assert_array_equal(loss["frozen/class_head"], loss["redrawn/none"])
    assert record.conditions["frozen/class_head"] == record.conditions["redrawn/none"]
    assert not np.array_equal(loss["frozen/auxiliary_head"], loss["redrawn/none"])


def test_other_networks_have_the_references_heads_and_hidden_layers_of_their_own(start, students):
    others = {name: student.params for name, student in students.items() if student.net}
    widths = {
        name: [values["kernel"].shape[1] for layer, values in params.items() if layer.startswith("hidden")]
        for name, params in others.items()
    }
    expected = {"shallower": [16], "deeper": [24, 24, 16], "narrower": [12, 16], "wider": [48, 16]}
    assert widths == {f"network/{kind}": shape for kind, shape in expected.items()} | {"convolutional/3x3": [16]}
    kernels = [others["convolutional/3x3"][f"convolution_{i}"]["kernel"].shape for i in (0, 1)]
    assert kernels == [(3, 3, 1, 16), (3, 3, 16, 32)], "its first layers see neighbourhoods of a square image"
    for params in others.values():
        for head in shared_parts.HEADS:
            assert same(params[head], start.reference[head])
