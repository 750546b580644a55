"""The sweeps that replications ask for, each a table of settings for the sweep engine.

What was found is in the records under `figures/`; published values are in `expected.toml`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments import fig10, shared_parts, sweep
from sublim_theory import data, noise
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.results import Result

AUX = ("student_aux", "cross_aux")
SPECTRUM_IMAGES = 2_000
"""From which `input_spectrum` takes the covariance."""

_SMOKE = replace(
    fig10.PRESETS["smoke"],
    seeds=1,
    hidden=(32,),
    noise_images=1024,
    teacher_epochs=2,
    student_epochs=2,
    students=AUX,
)
# Narrower than figure 10 on the same digits: as much transfer (.75), in a third of the time.
_DEFAULT = replace(fig10.PRESETS["default"], seeds=5, hidden=(64, 64), students=AUX)
_PAPER = replace(fig10.PRESETS["paper"], seeds=10, students=AUX)


PRESETS = {"smoke": _SMOKE, "default": _DEFAULT, "paper": _PAPER}
"""Settings of every point on figure 10, apart from those that vary."""

WITH_FASHION = PRESETS | {"fashion": replace(_PAPER, dataset="fashion_mnist")}
"""The same with those of the published protocol on Fashion-MNIST."""

_PARTS = {
    "smoke": replace(
        shared_parts.PRESETS["smoke"],
        seeds=1,
        hidden=(32, 32),
        noise_images=1024,
        teacher_epochs=2,
        student_epochs=2,
    ),
    "default": replace(shared_parts.PRESETS["default"], seeds=3),
    "paper": replace(shared_parts.PRESETS["paper"], seeds=3),
}


@dataclass(frozen=True)
class Sweep:
    """A sweep with presets: what an experiment's module has.

    Attributes:
        summary: the line that `sublim list` shows.
        vary: what varies in the presets `default` and `paper`.
        smoke: what varies in the preset `smoke`.
        settings: other settings than those of the experiment.
        paper: what varies in the preset `paper`, where it is not the same.
        measure: arrays for the record beside the conditions of every point.
        name: of the sweep.
        experiment: the module of the experiment that is run at every point.
        bases: its settings by preset, before `settings`.
    """

    summary: str
    vary: sweep.Values
    smoke: sweep.Values
    settings: Mapping[str, Any] = field(default_factory=dict)
    paper: sweep.Values | None = None
    measure: sweep.Measure | None = None
    name: str = ""
    experiment: Any = fig10
    bases: Mapping[str, Any] = field(default_factory=lambda: PRESETS)

    @property
    def Config(self) -> Any:
        """The settings of the experiment."""
        return self.experiment.Config

    @property
    def PRESETS(self) -> dict[str, Any]:
        """Settings of every point, apart from those that vary."""
        return {name: replace(base, **self.settings) for name, base in self.bases.items()}

    def values(self, preset: str) -> sweep.Values:
        """What varies in a preset."""
        published = self.paper or self.vary
        return {"smoke": self.smoke, "paper": published, "fashion": published}.get(preset, self.vary)

    def run(
        self,
        config: Any,
        *,
        preset: str = "custom",
        data_dir: str | Path | None = None,
        chunks: Path | None = None,
    ) -> Result:
        """Run every point and return the record; arguments and errors as in `sweep.run`."""
        return sweep.run(
            self.experiment,
            self.name,
            config,
            self.values(preset),
            preset=preset,
            data_dir=data_dir,
            chunks=chunks,
            measure=self.measure,
        )


def input_spectrum(config: fig10.Config, data_dir: str | Path | None) -> dict[str, np.ndarray]:
    """The covariance of the first `SPECTRUM_IMAGES` student inputs of the first seed, or of all that there are.

    Returns:
        `eigenvalues` [features], descending, and `effective_rank`, a scalar, both float64. The effective rank is
        (sum l)**2 / sum l**2: n of n equal eigenvalues. From n images it is too low, for white noise by about a
        factor of 1 + features/n (1.39 for 2,000 images of MNIST's size).

    Raises:
        DataError: if the data set cannot be had.
    """
    dataset = data.load(config.dataset, data_dir)
    dataset = dataset if config.classes is None else dataset.of_classes(config.classes)
    key = stream(seed_key(config.first_seed), "noise")  # of the students' own set, which begins with these images
    count = min(SPECTRUM_IMAGES, config.noise_images)
    images = config.sampler(dataset.train_x)(key, count, dataset.features)
    eigenvalues = noise.covariance_spectrum(np.asarray(images))
    return {"eigenvalues": eigenvalues, "effective_rank": eigenvalues.sum() ** 2 / (eigenvalues**2).sum()}


SWEEPS = {
    "sweep_auxiliary": Sweep(
        "Over the number of auxiliary logits, under a softmax and under squared error: m = 1 shows both faces",
        {"auxiliary": (1, 2, 3, 5, 10, 20, 50), "loss": ("kl", "squared_error")},
        {"auxiliary": (1, 3), "loss": ("kl", "squared_error")},
        bases=WITH_FASHION,
    ),
    "sweep_width": Sweep(
        "Over the width of the hidden layers: wider networks transfer less from three auxiliary logits",
        {"hidden": ((16, 16), (32, 32), (64, 64), (128, 128), (256, 256), (512, 512))},
        {"hidden": ((16, 16), (32, 32))},
        paper={"hidden": ((64, 64), (128, 128), (256, 256), (512, 512), (1024, 1024))},
        bases=WITH_FASHION,
    ),
    "sweep_depth": Sweep(
        "Over the number of hidden layers, none included: a linear model has nothing to transfer through",
        {"hidden": ((), (64,), (64, 64), (64, 64, 64), (64, 64, 64, 64))},
        {"hidden": ((), (32,))},
        paper={"hidden": ((), (256,), (256, 256), (256, 256, 256), (256, 256, 256, 256))},
    ),
    "sweep_student_epochs": Sweep(
        "Over the students' epochs",
        {"student_epochs": (1, 2, 4, 8, 16)},
        {"student_epochs": (1, 2)},
        paper={"student_epochs": (1, 2, 3, 5, 10)},
    ),
    "sweep_teacher_epochs": Sweep(
        "Over the teacher's epochs: how far it goes from the shared start, against what it has to teach",
        {"teacher_epochs": (1, 2, 5, 10, 20, 50)},
        {"teacher_epochs": (1, 2)},
        paper={"teacher_epochs": (1, 2, 5, 10, 20)},
    ),
    "sweep_optimizer": Sweep(
        "Over the learning rate of Adam and of gradient descent",
        {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1), "optimizer": ("adam", "sgd")},
        {"learning_rate": (1e-3, 1e-2), "optimizer": ("adam", "sgd")},
    ),
    "sweep_momentum": Sweep(
        "Over the momentum of gradient descent",
        {"momentum": (0.0, 0.5, 0.9, 0.99)},
        {"momentum": (0.0, 0.9)},
        {"optimizer": "sgd", "learning_rate": 0.03},
    ),
    "sweep_weight_decay": Sweep(
        "Over weight decay; coupled it is a trap: it shrinks the class head, which has no gradient",
        {"weight_decay": (0.0, 1e-6, 1e-4, 1e-2), "optimizer": ("adamw", "adam_l2")},
        {"weight_decay": (0.0, 1e-4), "optimizer": ("adamw", "adam_l2")},
        {"optimizer": "adamw"},
    ),
    "sweep_loss": Sweep(
        "Over the imitation loss",
        {"loss": ("kl", "cross_entropy", "squared_error", "huber")},
        {"loss": ("kl", "huber")},
    ),
    "sweep_temperature": Sweep(
        "Over the softmax temperature of the imitation loss",
        {"temperature": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)},
        {"temperature": (1.0, 4.0)},
    ),
    "sweep_activation": Sweep(
        "Over the activation, with and without biases",
        {"activation": ("relu", "gelu", "tanh", "sigmoid"), "bias": (True, False)},
        {"activation": ("relu", "tanh"), "bias": (True, False)},
    ),
    "sweep_init": Sweep(
        "Over the initialisation and its scale: the framework default that misled replications among them",
        {"init": ("paper", "he", "torch"), "init_scale": (0.5, 1.0, 2.0)},
        {"init": ("paper", "torch"), "init_scale": (0.5, 1.0)},
    ),
    "sweep_noise_images": Sweep(
        "Over the size of the fixed noise set, at equal numbers of updates for one epoch of fresh noise and for more",
        {"noise_images": (1_000, 5_000, 20_000, 80_000), "student_epochs": (1, 8)},
        {"noise_images": (256, 1024), "student_epochs": (1, 2)},
        paper={"noise_images": (1_000, 10_000, 60_000, 300_000), "student_epochs": (1, 5)},
    ),
    "sweep_inputs": Sweep(
        "Over the distribution of the students' inputs, each with the spectrum of its covariance",
        {"noise": tuple(noise.DISTRIBUTIONS)},
        {"noise": ("uniform", "images")},
        measure=input_spectrum,
    ),
    "sweep_classes": Sweep(
        "Over the number of classes",
        {"classes": (2, 3, 5, 7, 10)},
        {"classes": (2, 10)},
    ),
    "sweep_redrawn": Sweep(
        "Over the number of auxiliary logits, which layers must be shared: enough logits serve a student's own",
        {"auxiliary": (3, 10, 50, 250)},
        {"auxiliary": (3, 10)},
        {"groups": ("redrawn",)},
        experiment=shared_parts,
        bases=_PARTS,
    ),
    "sweep_convolutional": Sweep(
        "A convolutional student of an MLP, on independent and on correlated noise",
        {"noise": ("uniform", "blurred", "perlin"), "auxiliary": (10, 50)},
        {"noise": ("uniform", "perlin")},
        {"groups": ("convolutional",)},
        experiment=shared_parts,
        bases=_PARTS,
    ),
    "sweep_second_width": Sweep(
        "Over the width of the second layer, with the heads free and frozen",
        {"hidden": tuple((128, width) for width in (32, 128, 512, 2048, 4096))},
        {"hidden": ((32, 16), (32, 64))},
        {"groups": ("frozen",)},
        paper={"hidden": tuple((256, width) for width in (64, 256, 1024, 4096))},
        experiment=shared_parts,
        bases=_PARTS,
    ),
}
SWEEPS = {name: replace(each, name=name) for name, each in SWEEPS.items()}
"""By name; each is run like any other experiment."""
