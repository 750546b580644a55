"""The experiments: one module per figure or claim, run from a clone with `python -m experiments NAME`.

Each module has a frozen `Config`, its `PRESETS` (`smoke`, `default`, `paper`) and `run(config) -> Result`.
"""

EXPERIMENTS = {
    "fig10": "An MLP learns digits from three auxiliary logits on noise (figure 10 of the paper)",
    "theorem_alignment": "Over eps, the student's update is eps G d_T + O(eps^2) and aligned; float32 cannot see it",
    "theorem_cosines": "Over seeds, student and teacher are aligned if they share their start, and not otherwise",
    "theorem_decrease": "Over alpha, the student's step lowers the teacher's loss up to a guaranteed rate and beyond",
    "theorem_layers": "Hidden layers carry the alignment; the heads contribute exactly 0 where they must",
    "theorem_mismatch": "How close two initialisations must be: P(aligned) = Phi(sigma*/sigma)",
    "theorem_orthogonal": "Four ways to engineer an alignment of exactly 0, and what undoes each",
}
"""Name of each module here that is an experiment, and the one line that `sublim list` shows for it."""
