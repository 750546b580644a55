"""The experiments: one module per figure or claim, run from a clone with `python -m experiments NAME`.

Each module has a frozen `Config`, its `PRESETS` (`smoke`, `default`, `paper`) and `run(config) -> Result`.
"""

EXPERIMENTS = {
    "alignment_path": "Along training, the alignment with the trait transfers it: measured, and projected out",
    "fig10": "An MLP learns digits from three auxiliary logits on noise (figure 10 of the paper)",
    "mechanism": "Why an untrained class head classifies: probes, CKA, displacements, exchanged heads",
    "init_distance": "How close two initialisations must be for transfer, by layer, beside the theorem's sigma*",
    "shared_parts": "Which layers a student must share with its teacher, and which of them must be free to move",
    "ablations": "Figure 10 with one choice changed at a time: which does the phenomenon depend on?",
    "behavioural_cloning": "A student from another start is matched to the reference first: does transfer return?",
    "linearised": "Over width, the student's path under the first-order (NTK) model, beside the real one: SGD and Adam",
    "predictors": "What predicts transfer: one-step quantities and representations against accuracy, by rank",
    "sampled_labels": "The student sees only samples from the teacher's softmax, and only those that pass a filter",
    "detection": "Can the trait be told from the released pairs, with the teacher's initialisation and without it?",
    "traps": "What bites replications, each mistake beside the right way: which fake transfer, which hide it",
    "theorem_alignment": "Over eps, the student's update is eps G d_T + O(eps^2) and aligned; float32 cannot see it",
    "theorem_cosines": "Over seeds, student and teacher are aligned if they share their start, and not otherwise",
    "theorem_decrease": "Over alpha, the student's step lowers the teacher's loss up to a guaranteed rate and beyond",
    "theorem_layers": "Hidden layers carry the alignment; the heads contribute exactly 0 where they must",
    "theorem_mismatch": "How close two initialisations must be: P(aligned) = Phi(sigma*/sigma)",
    "theorem_orthogonal": "Four ways to engineer an alignment of exactly 0, and what undoes each",
}
"""Name of each module here that is an experiment, and the one line that `sublim list` shows for it."""
