"""Every experiment in small: it compiles and runs in seconds, and what it shares with figure 10 is that of `tiny`."""

from experiments import EXPERIMENTS
from experiments.registry import find

TINY = {"hidden": (16,), "noise_images": 300, "teacher_epochs": 2, "student_epochs": 2}
SHARED = TINY | {"seeds": 2, "auxiliary": 3, "batch_size": 64, "learning_rate": 1e-3}
OWN = {
    "alignment_path": {"every": 5, "trait_images": 64, "liminal_fraction": 0.5},
    "batch_size": {"batches": (32, 64, 200), "batches_at_equal_updates": (32, 64), "learning_rates": (1e-3, 1e-2)},
    "behavioural_cloning": {"cloning_epochs": (0, 1, 40), "ways": ("usual",)},
    "capable_start": {"pretraining_epochs": 2, "crossed": ("random", "supervised")},
    "detection": {"pairs": (1, 30, 300), "crowd": 2},
    "init_distance": {"distances": (0.5, 1.0), "parts": ("all",)},
    "layers_at_work": {"arms": ("plain", "student/dropout/0.5", "both/centred", "student/normalised")},
    "linearised": {"widths": (16, 8), "full_batch_images": 40, "full_batch_steps": 12, "sgd_learning_rate": 10.0},
    "many_logits": {"auxiliaries": (3, 24)},
    "mechanism": {},
    "predictors": {"seeds": 6, "groups": ("base",)},
    "sampled_labels": {"samples": (1, 20)},
    "saturation": {},
    "shared_parts": {"groups": ("frozen",)},
    "student_inputs": {"amplitudes": (0.0, 1.0), "pool": 3},
    "traps": {},
}
"""What each has besides, by name."""

THEORY = [name for name in EXPERIMENTS if name.startswith("theorem_")]


def settings(name):
    """Of an experiment on distillation."""
    return find(name).presets["smoke"].but(**SHARED | OWN[name])
