"""Exercises with checks: `sublim exercise list | start NAME | check FILE`, from a clone.

| folder | holds |
|---|---|
| `starters/` | the statement of each exercise, as a script in py:percent form with places to fill in |
| `checks/` | what tests an answer: a generator of findings for each exercise |
| `solutions/` | one answer to each, for teachers |

An answer is read by `answer`, run by `child` in a process that `process` starts and ends, and reported by `command`.
"""

EXERCISES = {
    "theorem_by_hand": "Write the student's update of Theorem 1 and its alignment with the teacher's, with jax.grad",
    "break_the_theorem": "Four instances without the theorem's conclusion, each for a reason that you name",
    "why_noise_works": "Rank input distributions by how much they transfer, from one step, before any training",
    "three_logits": "Pre-register three factors, test them with error bars, get the most out of three logits",
    "predict_transfer": "Predict from networks and noise alone how well a student will do that is yet to be trained",
    "guess_the_animal": "Name a teacher's animal from its numbers alone, with the base it started from, and without",
}
"""Name of each exercise, and the one line that `sublim exercise list` shows for it."""
