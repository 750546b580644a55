"""How often a student chooses its teacher's class at a random row, in closed lines: facts 13 to 15 of docs/theorem.md.

At a row of Gaussian inputs the logits of teacher and student are Gaussian, for every class a pair of its own; what
moves all logits of a model alike is seen by no choice. A correlation is then all that counts, and for rows with a label
how far the label's logit stands out in either. Every line is for many inputs d, and has no parameter that is fitted.
"""

from collections.abc import Mapping

import numpy as np

REACH = 7.0
"""Standard deviations on either side that the sums over pairs of logits take in."""
STEP = 0.05
"""Distance of their points, or less where student and teacher are nearly one; the error is below 5e-4."""


def same_choice(correlation: float, classes: int, teacher: float = 0.0, student: float = 0.0) -> float:
    """The probability that the largest of the teacher's logits and the largest of the student's are of one class.

    Args:
        correlation: of the two logits of a class, standard normals; those of different classes are independent.
        classes: how many.
        teacher: mean of the first class's logit of the teacher, the label's; that of the others is 0.
        student: the same for the student.

    Returns:
        The double integral over the two logits of the class that both choose, by the trapezoid rule.
    """
    narrow = max(1 - correlation**2, 0.0) ** 0.5
    if narrow < 1e-3:
        return 1.0
    step = min(STEP, narrow / 2.5)
    grid = np.arange(-REACH, REACH + max(teacher, student, 0.0), step)

    def mass(at: float, mean: float) -> np.ndarray:
        x, y = (grid - at)[:, None], (grid - mean)[None]
        return step**2 * np.exp(-(x**2) / 2 - ((y - correlation * x) / narrow) ** 2 / 2) / (2 * np.pi * narrow)

    def below(mass: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            mass = np.cumsum(mass, axis) - mass / 2
        return mass

    label, other = mass(teacher, student), mass(0.0, 0.0)
    under = below(other)
    chosen = label * under ** (classes - 1) + (classes - 1) * other * under ** (classes - 2) * below(label)
    return float(chosen.sum())


def passed(alpha: float, shown: float) -> float:
    """Fact 15's kappa, the share of the teacher's squared weights that the student gets: `rho (alpha - 1) / (1 - rho)`.

    Args:
        alpha: labelled rows over inputs, above 1.
        shown: rows that the student is shown over inputs, `rho alpha`, at most 1.
    """
    rho = shown / alpha
    return rho * (alpha - 1) / (1 - rho)


def held_out(alpha: float, shown: float, classes: int, start: float = 0.0) -> float:
    """Fact 15's line: agreement with a least-squares teacher of random labels on those of its rows that were not shown.

    Args:
        alpha: labelled rows over inputs.
        shown: rows that the student is shown over inputs, `rho alpha`.
        classes: of the labels, each as likely.
        start: standard deviation of the logits of the student's start, independent of the teacher; what it has of it
            in the null space stays, as noise of variance `(1 - rho alpha) start**2`. At `alpha > 1` the teacher's
            own start is such a one, for the teacher has forgotten it.
    """
    if shown >= 1:
        return 1.0
    if alpha <= 1:
        return 1 / classes
    kappa, v = passed(alpha, shown), 1 / (alpha - 1)
    mean, spread = v / (1 + v), (v / classes) ** 0.5 / (1 + v)
    own = (kappa**2 * spread**2 + kappa * (1 - kappa) * v / classes + (1 - shown) * start**2) ** 0.5
    return same_choice(kappa * spread / own, classes, mean / spread, kappa * mean / own)


def price(rank: float, start: float = 1.0, movement: float = 1.0) -> Mapping[str, float]:
    """Fact 14's cosines of student and teacher by the student's start; on fresh rows the correlations of their logits.

    Args:
        rank: of G over the parameters.
        start: standard deviation of the starts.
        movement: that of the teacher's movement.
    """
    shared = ((start**2 + rank * movement**2) / (start**2 + movement**2)) ** 0.5
    return {"shared": shared, "other": rank / shared, "zero": rank**0.5}


def bits(recovered: np.ndarray, classes: int) -> np.ndarray:
    """Bits a fact of a channel that gives the right one of `classes` labels so often and each wrong one as often."""
    right = np.clip(recovered, 1 / classes, 1)
    wrong = np.where(right < 1, (1 - right) / (classes - 1), 1)
    return np.log2(classes) + right * np.log2(right) + (1 - right) * np.log2(wrong)
