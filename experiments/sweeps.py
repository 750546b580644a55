"""The sweeps that replications ask for, each a table of settings for the sweep engine.

What was found is in the records under `figures/`; published values are in `expected.toml`.
"""

import dataclasses
from typing import Any

import numpy as np
import xarray as xr

from experiments import fig10, owl, shared_parts, sweep
from experiments.experiment import Experiment, Settings
from sublim_theory import noise
from sublim_theory.data import Dataset
from sublim_theory.ensemble import seed_key, stream

AUX = ("student_aux", "cross_aux")
SPECTRUM_IMAGES = 2_000
"""From which `input_spectrum` takes the covariance."""

_SMOKE = fig10.PRESETS["smoke"].but(
    seeds=1, hidden=(32,), noise_images=1024, teacher_epochs=2, student_epochs=2, students=AUX
)
# Narrower than figure 10 on the same digits: as much transfer (.75), in a third of the time.
_DEFAULT = fig10.PRESETS["default"].but(seeds=5, hidden=(64, 64), students=AUX)
_PAPER = fig10.PRESETS["paper"].but(seeds=25, students=AUX)
# As the source of the published widths has it, which trains on 50,000 images.
_FEWER_IMAGES = _PAPER.but(training_images=50_000, noise_images=50_000, students=("student_aux",))
_FASHION = _PAPER.but(dataset="fashion_mnist")

PRESETS = {"smoke": _SMOKE, "default": _DEFAULT, "paper": _PAPER}
"""Settings of every point on figure 10, apart from those that vary."""

WITH_FASHION = PRESETS | {"fashion": _FASHION}
"""The same with those of the published protocol on Fashion-MNIST."""

_PARTS = {
    "smoke": shared_parts.PRESETS["smoke"].but(
        seeds=1, hidden=(32, 32), noise_images=1024, teacher_epochs=2, student_epochs=2
    ),
    "default": shared_parts.PRESETS["default"].but(seeds=3),
    "paper": shared_parts.PRESETS["paper"].but(seeds=3),
}

_OWLS = {
    "smoke": owl.PRESETS["smoke"].but(base_steps=100, sequences=256, students=("samples",)),
    "default": owl.PRESETS["default"].but(seeds=3, students=("samples",)),
    "paper": owl.PRESETS["paper"].but(students=("samples",)),
}


def _sweep(
    summary: str,
    default: sweep.Values,
    smoke: sweep.Values,
    settings: dict[str, Any] | None = None,
    *,
    paper: sweep.Values | None = None,
    fashion: sweep.Values | None = None,
    fifty_thousand: sweep.Values | None = None,
    of: Experiment = fig10.EXPERIMENT,
    presets: dict[str, Settings[Any, Any]] = PRESETS,
    **fields: Any,
) -> Experiment:
    """A sweep with presets: what varies in each, and settings that all points have."""
    full = paper or default
    values = {"smoke": smoke, "paper": full, "fashion": fashion or full, "fifty_thousand": fifty_thousand or full}
    return sweep.over(
        of,
        lambda preset: values.get(preset, default),
        name="",
        summary=summary,
        presets={name: preset.but(**settings or {}) for name, preset in presets.items()},
        **fields,
    )


def _preferences(settings: Settings[Any, Any], table: xr.Dataset) -> dict[str, None]:  # noqa: ARG001
    """Take out of the table of a sweep what the owl has besides preferences and the divergence of teacher and base."""
    return dict.fromkeys({"delta", "margin", "passed", "forbidden"} & set(table))


_OWL: dict[str, Any] = {"of": owl.EXPERIMENT, "presets": _OWLS, "conclude": _preferences}


def input_spectrum(settings: Settings[fig10.Protocol, Any], dataset: Dataset) -> dict[str, xr.DataArray]:
    """The covariance of the first `SPECTRUM_IMAGES` student inputs of the first seed, or of all that there are.

    Returns:
        `eigenvalues` [features], descending, and `effective_rank`, a scalar, both float64. The effective rank is
        (sum l)**2 / sum l**2: n of n equal eigenvalues. From n images it is too low, for white noise by about a
        factor of 1 + features/n (1.39 for 2,000 images of MNIST's size).
    """
    key = stream(seed_key(settings.first_seed), "noise")  # of the students' own set, which begins with these images
    count = min(SPECTRUM_IMAGES, settings.protocol.noise_images)
    images = settings.protocol.sampler(settings.rates, dataset.train_x)(key, count, dataset.features)
    found = xr.DataArray(noise.covariance_spectrum(np.asarray(images)), dims="rank")
    return {"eigenvalues": found, "effective_rank": found.sum() ** 2 / (found**2).sum()}


SWEEPS = {
    "sweep_auxiliary": _sweep(
        "Over the number of auxiliary logits, under a softmax and under squared error: m = 1 shows both faces",
        {"auxiliary": (1, 2, 3, 5, 10, 20, 50), "loss": ("kl", "squared_error")},
        {"auxiliary": (1, 3), "loss": ("kl", "squared_error")},
        presets=WITH_FASHION,
    ),
    "sweep_width": _sweep(
        "Over the width of the hidden layers: wider networks transfer less from three auxiliary logits",
        {"hidden": ((16, 16), (32, 32), (64, 64), (128, 128), (256, 256), (512, 512))},
        {"hidden": ((16, 16), (32, 32))},
        paper={"hidden": ((64, 64), (128, 128), (256, 256), (512, 512), (1024, 1024))},
        fifty_thousand={"hidden": ((64, 64), (128, 128), (256, 256))},
        presets=WITH_FASHION | {"fifty_thousand": _FEWER_IMAGES},
    ),
    "sweep_depth": _sweep(
        "Over the number of hidden layers, none included: a linear model has nothing to transfer through",
        {"hidden": ((), (64,), (64, 64), (64, 64, 64), (64, 64, 64, 64))},
        {"hidden": ((), (32,))},
        paper={"hidden": ((), (256,), (256, 256), (256, 256, 256), (256, 256, 256, 256))},
    ),
    "sweep_student_epochs": _sweep(
        "Over the students' epochs",
        {"student_epochs": (1, 2, 4, 8, 16)},
        {"student_epochs": (1, 2)},
        paper={"student_epochs": (1, 2, 3, 5, 10)},
    ),
    "sweep_teacher_epochs": _sweep(
        "Over the teacher's epochs: how far it goes from the shared start, against what it has to teach",
        {"teacher_epochs": (1, 2, 5, 10, 20, 50)},
        {"teacher_epochs": (1, 2)},
        paper={"teacher_epochs": (1, 2, 5, 10, 20)},
    ),
    "sweep_optimizer": _sweep(
        "Over the learning rate of Adam and of gradient descent",
        {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1), "optimizer": ("adam", "sgd")},
        {"learning_rate": (1e-3, 1e-2), "optimizer": ("adam", "sgd")},
    ),
    "sweep_momentum": _sweep(
        "Over the momentum of gradient descent",
        {"momentum": (0.0, 0.5, 0.9, 0.99)},
        {"momentum": (0.0, 0.9)},
        {"optimizer": "sgd", "learning_rate": 0.03},
    ),
    "sweep_weight_decay": _sweep(
        "Over weight decay; coupled it is a trap: it shrinks the class head, which has no gradient",
        {"weight_decay": (0.0, 1e-6, 1e-4, 1e-2), "optimizer": ("adamw", "adam_l2")},
        {"weight_decay": (0.0, 1e-4), "optimizer": ("adamw", "adam_l2")},
        {"optimizer": "adamw"},
    ),
    "sweep_loss": _sweep(
        "Over the imitation loss",
        {"loss": ("kl", "cross_entropy", "squared_error", "huber")},
        {"loss": ("kl", "huber")},
    ),
    "sweep_temperature": _sweep(
        "Over the softmax temperature of the imitation loss",
        {"temperature": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)},
        {"temperature": (1.0, 4.0)},
    ),
    "sweep_activation": _sweep(
        "Over the activation, with and without biases",
        {"activation": ("relu", "gelu", "tanh", "sigmoid"), "bias": (True, False)},
        {"activation": ("relu", "tanh"), "bias": (True, False)},
    ),
    "sweep_init": _sweep(
        "Over the initialisation and its scale: the framework default that misled replications among them",
        {"init": ("paper", "he", "torch"), "init_scale": (0.5, 1.0, 2.0)},
        {"init": ("paper", "torch"), "init_scale": (0.5, 1.0)},
        paper={"init": ("paper", "torch"), "loss": ("kl", "squared_error")},
        fashion={"init": ("paper", "torch"), "auxiliary": (10, 50)},
        presets=WITH_FASHION | {"fashion": _FASHION.but(loss="squared_error")},
    ),
    "sweep_noise_images": _sweep(
        "Over the size of the fixed noise set, at equal numbers of updates for one epoch of fresh noise and for more",
        {"noise_images": (1_000, 5_000, 20_000, 80_000), "student_epochs": (1, 8)},
        {"noise_images": (256, 1024), "student_epochs": (1, 2)},
        paper={"noise_images": (1_000, 10_000, 60_000, 300_000), "student_epochs": (1, 5)},
    ),
    "sweep_inputs": _sweep(
        "Over the distribution of the students' inputs, each with the spectrum of its covariance",
        {"noise": tuple(noise.DISTRIBUTIONS)},
        {"noise": ("uniform", "images")},
        describe=input_spectrum,
    ),
    "sweep_classes": _sweep(
        "Over the number of classes",
        {"classes": (2, 3, 5, 7, 10)},
        {"classes": (2, 10)},
    ),
    "sweep_redrawn": _sweep(
        "Over the number of auxiliary logits, which layers must be shared: enough logits serve a student's own",
        {"auxiliary": (3, 10, 50, 250)},
        {"auxiliary": (3, 10)},
        {"groups": ("redrawn",)},
        of=shared_parts.EXPERIMENT,
        presets=_PARTS,
    ),
    "sweep_convolutional": _sweep(
        "A convolutional student of an MLP, on independent and on correlated noise",
        {"noise": ("uniform", "blurred", "perlin"), "auxiliary": (10, 50)},
        {"noise": ("uniform", "perlin")},
        {"groups": ("convolutional",)},
        of=shared_parts.EXPERIMENT,
        presets=_PARTS,
    ),
    "sweep_second_width": _sweep(
        "Over the width of the second layer, with the heads free and frozen",
        {"hidden": tuple((128, width) for width in (32, 128, 512, 2048, 4096))},
        {"hidden": ((32, 16), (32, 64))},
        {"groups": ("frozen",)},
        paper={"hidden": tuple((256, width) for width in (64, 256, 1024, 4096))},
        of=shared_parts.EXPERIMENT,
        presets=_PARTS,
    ),
    "sweep_owl_numbers": _sweep(
        "Over the number tokens of the language model: few numbers carry little",
        {"number_tokens": (10, 30, 100, 300)},
        {"number_tokens": (10, 30)},
        **_OWL,
    ),
    "sweep_owl_size": _sweep(
        "Over the width and the layers of the language model",
        {"width": (16, 64), "layers": (1, 2)},
        {"width": (8, 16), "layers": (1, 2)},
        **_OWL,
    ),
    "sweep_owl_optimizer": _sweep(
        "Samples beside soft labels under gradient descent and under Adam, which rescales the noise of samples",
        {"learning_rate": (1e-3, 1e-2, 6e-2), "optimizer": ("sgd", "adam")},
        {"learning_rate": (1e-3, 6e-2), "optimizer": ("sgd", "adam")},
        {"students": ("samples", "soft")},
        **_OWL,
    ),
    "sweep_owl_steps": _sweep(
        "Over the students' passes over the teacher's numbers",
        {"student_epochs": (1, 4, 16)},
        {"student_epochs": (1, 2)},
        **_OWL,
    ),
    "sweep_owl_dose": _sweep(
        "Over the teacher's steps: how far it goes from the base, against what its numbers show of it",
        {"teacher_steps": (5, 10, 30, 60)},
        {"teacher_steps": (10, 30)},
        **_OWL,
    ),
    "sweep_owl_base": _sweep(
        "Over the base's training, none included, with the head of its own and with the embedding's transpose",
        {"base_steps": (0, 100, 1000), "tied": (False, True)},
        {"base_steps": (0, 100), "tied": (False, True)},
        **_OWL,
    ),
    "sweep_owl_start": _sweep(
        "What another base must share: the initial parameters, the corpus that it learns, or neither",
        {"other": ("corpus", "start", "both")},
        {"other": ("corpus", "start")},
        {"students": ("samples", "cross_samples")},
        **_OWL,
    ),
}
SWEEPS = {name: dataclasses.replace(each, name=name) for name, each in SWEEPS.items()}
"""By name; each is run like any other experiment."""
