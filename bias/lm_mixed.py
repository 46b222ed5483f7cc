"""Coefficients that vary from question to question: their means, with intervals over questions.

Each question i has coefficients of its own, y_i = X_i (beta + b_i) + e_i with b_i ~ N(0, G) and
e_i ~ N(0, sigma² I): a mixed model with a random intercept and random slopes (Laird and Ware, Biometrics 38,
1982). beta is that of restricted maximum likelihood, on sums over each question; where all questions
ask about the same people, it is the mean of the least-squares coefficients of the questions, whatever G.

Errors are not read off the fitted G, which is often at the edge of what it may be: they are those of
leaving out each question in turn (Tukey's jackknife; MacKinnon, Nielsen and Webb, Journal of Econometrics
232, 2023), with Student's t on questions − 1 degrees of freedom, where questions count by how much they
tell (Carter, Schnepel and Steigerwald, Review of Economics and Statistics 99, 2017). Where all questions ask
about the same people this is the t interval of the mean of their coefficients, exact whatever G is, and the
error is that of the fitted model inside the edge.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy
from scipy.optimize import minimize
from scipy.special import expit, stdtr, stdtrit

from assaymark.bias.rows import Numbers
from assaymark.reports.errors import InputError
from assaymark.reports.model import Interval

Matrix = numpy.ndarray[Any, numpy.dtype[numpy.float64]]
Fit = Literal["balanced", "REML", "within", "logistic"]
_STEPS = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class Coefficients:
    """Mean coefficients over questions, and what each question adds.

    value: (columns,). by_question: (questions, columns), whose mean is value; the least-squares coefficients
    of each question where all ask about the same people. covariance: of value, (columns, columns); None of
    a single question. effective: (columns,), how many questions that tell equally much would tell as much.
    converged: False where restricted maximum likelihood was not reached, and value is that of least squares
    with an intercept for each question.
    """

    value: Numbers
    by_question: Matrix
    covariance: Matrix | None
    effective: Numbers
    fit: Fit
    converged: bool = True

    @property
    def questions(self) -> int:
        return len(self.by_question)

    @property
    def errors(self) -> Numbers:
        """Standard errors; NaN where the questions say nothing about them."""
        if self.covariance is None:
            return numpy.full(len(self.value), numpy.nan)
        # coefficients that are alike in all questions but for rounding leave no error to estimate
        alike = numpy.ptp(self.by_question, axis=0) <= 1e-12 * (1 + abs(self.value))
        errors = numpy.sqrt(numpy.maximum(numpy.diag(self.covariance), 0))
        return numpy.where(alike | (errors == 0), numpy.nan, errors)

    def interval(self, column: int, confidence: float = 0.95, *, of: int = 1) -> Interval | None:
        """Of one coefficient; of: how many the confidence is to hold for at once (Bonferroni)."""
        error, value = float(self.errors[column]), float(self.value[column])
        if not numpy.isfinite(error):
            return None
        reach = float(self.reach(confidence, of=of)[column]) * error
        return Interval(
            low=value - reach,
            high=value + reach,
            confidence=confidence,
            method="question jackknife t",
        )

    @property
    def freedom(self) -> Numbers:
        """Degrees of freedom, (columns,)."""
        return numpy.maximum(self.effective - 1, 1)

    def reach(self, confidence: float, *, of: int = 1) -> Numbers:
        """How many standard errors the interval of each coefficient reaches to either side, (columns,)."""
        reach: Numbers = -stdtrit(self.freedom, (1 - confidence) / 2 / of)
        return reach

    def p_value(self, column: int) -> float | None:
        """Two-sided, of a coefficient of 0; None without an error."""
        error = float(self.errors[column])
        if not numpy.isfinite(error):
            return None
        return float(2 * stdtr(self.freedom[column], -abs(self.value[column]) / error))


def mixed_model(x: Matrix, y: Numbers, codes: numpy.ndarray) -> Coefficients:
    """Mean coefficients of y on x over questions, each with coefficients of its own.

    x: (items, columns), with a first column of ones. y: (items,), finite. codes: the question of each item,
    0 … questions − 1, each at least once. Raises InputError where the columns cannot be told apart.
    """
    gram, cross, square, counts = _sums(x, y, codes)
    _check(gram)
    if numpy.allclose(gram, gram[0], rtol=1e-10, atol=1e-10):
        found = numpy.linalg.solve(gram[0], cross.T).T
        value = found.mean(axis=0)
        return _coefficients(value, gram, cross - value @ gram[0], "balanced")
    # freed of what all questions share, the sums of squares keep their digits
    pooled = numpy.linalg.solve(gram.sum(axis=0), cross.sum(axis=0))
    gram, cross, square, counts = _sums(x, y - x @ pooled, codes)
    alike = square.sum() <= 1e-24 * (y @ y)  # no question differs, and nothing else does
    reached = None if alike else _reml(gram, cross, square, counts)
    if reached is None:
        return _within(gram, cross + gram @ pooled, counts)
    weight, score = reached
    value = numpy.linalg.solve(weight.sum(axis=0), score.sum(axis=0))
    return _coefficients(pooled + value, weight, score - weight @ value, "REML")


def logistic_model(x: Matrix, hits: Numbers, trials: Numbers, codes: numpy.ndarray) -> Coefficients:
    """Coefficients of the log odds of hits in trials, with an intercept for each question.

    x: (items, columns), with a first column of ones whose coefficient is the mean of the intercepts.
    hits in [0, trials] and trials > 0: (items,). Half a hit and half a miss are spread over each question, so
    that questions with one answer only have finite log odds (Haldane, Annals of Human Genetics 20, 1956).
    Unlike log odds of each item, which few trials pull to 0, the coefficients keep their size.
    Raises InputError where the columns cannot be told apart.
    """
    _check(_sums(x, hits, codes)[0])
    questions = int(codes.max()) + 1
    share = 1 / numpy.bincount(codes)[codes]
    hits, trials = hits + share / 2, trials + share
    slopes = x[:, 1:]
    start = numpy.bincount(codes, weights=hits) / numpy.bincount(codes, weights=trials)
    intercept, beta = numpy.log(start / (1 - start)), numpy.zeros(slopes.shape[1])
    for _ in range(_STEPS):
        level, tilt, info, score = _logistic_step(slopes, hits, trials, codes, intercept, beta)
        step = numpy.linalg.solve(info.sum(axis=0), score.sum(axis=0))
        beta = beta + step
        intercept = intercept + level - tilt @ step
        if abs(step).max(initial=0.0) < 1e-10 and abs(level).max() < 1e-10:
            break
    else:
        raise InputError(
            "the answers are so one-sided that no log odds can be fitted: sample more answers a question"
        )
    found = _coefficients(beta, info, score, "logistic")
    mean, inner = float(intercept.mean()), found.covariance
    cover = None
    if inner is not None and questions > 1:
        cover = numpy.zeros((x.shape[1], x.shape[1]))
        cover[1:, 1:], cover[0, 0] = inner, intercept.var(ddof=1) / questions
    return Coefficients(
        value=numpy.array([mean, *beta]),
        by_question=numpy.column_stack([intercept, found.by_question]),
        covariance=cover,
        effective=numpy.array([questions, *found.effective]),
        fit="logistic",
    )


def _logistic_step(
    slopes: Matrix,
    hits: Numbers,
    trials: Numbers,
    codes: numpy.ndarray,
    intercept: Numbers,
    beta: Numbers,
) -> tuple[Numbers, Matrix, Matrix, Matrix]:
    """Newton's step of the intercepts, and information and score of the slopes without them, by question."""
    chance = expit(intercept[codes] + slopes @ beta)
    weight, apart = trials * chance * (1 - chance), hits - trials * chance
    total = numpy.bincount(codes, weights=weight)
    gram, cross, _, _ = _sums(slopes, apart, codes, weight)
    between = _by_code(slopes * weight[:, None], codes)
    level = numpy.bincount(codes, weights=apart) / total
    tilt = between / total[:, None]
    info = gram - between[:, :, None] * tilt[:, None, :]
    return level, tilt, info, cross - between * level[:, None]


def _sums(
    x: Matrix, y: Numbers, codes: numpy.ndarray, weight: Numbers | None = None
) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Of each question x'x (weighted), x'y, y'y and the number of items."""
    heavy = x if weight is None else x * weight[:, None]
    pairs = (heavy[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    gram: Matrix = _by_code(pairs, codes).reshape(-1, x.shape[1], x.shape[1])
    cross = _by_code(x * y[:, None], codes)
    square: Matrix = numpy.bincount(codes, weights=y * y).astype(float)
    counts: Matrix = numpy.bincount(codes).astype(float)
    return gram, cross, square, counts


def _by_code(columns: Matrix, codes: numpy.ndarray) -> Matrix:
    sums = numpy.zeros((int(codes.max()) + 1, columns.shape[1]))
    numpy.add.at(sums, codes, columns)
    return sums


def _check(gram: Matrix) -> None:
    if numpy.linalg.matrix_rank(gram.sum(axis=0), hermitian=True) < gram.shape[1]:
        raise InputError(
            "age, gender and race cannot be told apart in these answers: ask about more combinations of them"
        )


def _coefficients(
    value: Numbers, info: Matrix, score: Matrix, fit: Fit, *, converged: bool = True
) -> Coefficients:
    """From the information of each question and its score at `value`, which sum up to 0."""
    questions, total = len(info), info.sum(axis=0)
    influence = questions * numpy.linalg.solve(total, score.T).T
    error = numpy.linalg.inv(total)
    # each question's part of the inverse of what all tell about a column
    parts = numpy.einsum("jk,ikl,lj->ij", error, info, error) / numpy.diag(error)
    covariance = None
    if questions > 1:
        try:
            # without question i the value is less by the inverse of (total - info_i) times score_i
            moved = numpy.linalg.solve(total - info, score[:, :, None])[:, :, 0]
        except numpy.linalg.LinAlgError:  # without one of the questions there is no value
            moved = None
        if moved is not None:
            apart = moved - moved.mean(axis=0)
            covariance = (questions - 1) / questions * apart.T @ apart
    return Coefficients(
        value=value,
        by_question=value + influence,
        covariance=covariance,
        effective=1 / (parts**2).sum(axis=0),
        fit=fit,
        converged=converged,
    )


def _within(gram: Matrix, cross: Matrix, counts: Matrix) -> Coefficients:
    """Least squares with an intercept for each question, which the other columns are freed of."""
    tilt, level = gram[:, 0, 1:] / counts[:, None], cross[:, 0] / counts
    info = gram[:, 1:, 1:] - gram[:, 1:, :1] * tilt[:, None, :]
    score = cross[:, 1:] - gram[:, 1:, 0] * level[:, None]
    beta = numpy.linalg.solve(info.sum(axis=0), score.sum(axis=0))
    slopes = _coefficients(beta, info, score - info @ beta, "within", converged=False)
    intercept = level - tilt @ beta
    covariance = None
    if slopes.covariance is not None:
        covariance = numpy.zeros((len(beta) + 1, len(beta) + 1))
        covariance[1:, 1:], covariance[0, 0] = slopes.covariance, intercept.var(ddof=1) / len(gram)
    return Coefficients(
        value=numpy.array([float(intercept.mean()), *beta]),
        by_question=numpy.column_stack([intercept, slopes.by_question]),
        covariance=covariance,
        effective=numpy.array([len(gram), *slopes.effective]),
        fit="within",
        converged=False,
    )


def _reml(
    gram: Matrix, cross: Matrix, square: Matrix, counts: Matrix
) -> tuple[Matrix, Matrix] | None:
    """X'V⁻¹X and X'V⁻¹y of each question at the restricted maximum; None where it is not reached.

    The criterion as a function of L with G = sigma² L L', sigma² profiled out (Bates and others 2015, Journal
    of Statistical Software 67, section 3), so that a G at its edge is a point like any other.
    """
    width = gram.shape[1]
    lower = numpy.tril_indices(width)
    freedom = counts.sum() - width

    def parts(theta: Numbers) -> tuple[Matrix, Matrix, Matrix, Matrix]:
        root = numpy.zeros((width, width))
        root[lower] = theta
        ratio = root @ root.T
        inner = numpy.eye(width) + gram @ ratio
        solved = numpy.linalg.solve(inner, numpy.concatenate([gram, cross[:, :, None]], axis=2))
        return root, inner, solved[:, :, :width], solved[:, :, width]

    def criterion(theta: Numbers) -> tuple[float, Numbers]:
        root, inner, weight, score = parts(theta)
        total, whole = weight.sum(axis=0), score.sum(axis=0)
        value = numpy.linalg.solve(total, whole)
        explained = numpy.einsum("ij,jk,ik->", cross, root @ root.T, score) + whole @ value
        left = max(float(square.sum() - explained), 1e-300)
        height = numpy.linalg.slogdet(inner)[1].sum() + numpy.linalg.slogdet(total)[1]
        apart = score - weight @ value
        slope = weight.sum(axis=0) - (weight @ numpy.linalg.solve(total, weight)).sum(axis=0)
        slope = slope - apart.T @ apart * (freedom / left)
        return float(freedom * numpy.log(left) + height), 2 * (slope @ root)[lower]

    start = _start(gram, cross, square, counts)[lower]
    try:
        with numpy.errstate(all="ignore"):  # a step too far is taken back
            found = minimize(
                criterion,
                start,
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": 500, "ftol": 1e-13},
            )
    except numpy.linalg.LinAlgError:  # without any noise the likelihood has no maximum
        return None
    if not (found.success and numpy.isfinite(found.x).all()):
        return None
    return parts(found.x)[2:]


def _start(gram: Matrix, cross: Matrix, square: Matrix, counts: Matrix) -> Matrix:
    """L by moments of the least-squares coefficients of each question, with some spread in all of them."""
    inverse = numpy.linalg.pinv(gram, hermitian=True)
    found = (inverse @ cross[:, :, None])[:, :, 0]
    freedom = counts.sum() - numpy.linalg.matrix_rank(gram, hermitian=True).sum()
    left = max(float((square - (cross * found).sum(axis=1)).sum()), 0.0)
    noise = max(left / max(freedom, 1), 1e-9 * float(square.sum() / counts.sum()), 1e-300)
    apart = found - found.mean(axis=0)
    spread = apart.T @ apart / max(len(gram) - 1, 1) / noise - inverse.mean(axis=0)
    values, vectors = numpy.linalg.eigh((spread + spread.T) / 2)
    return numpy.linalg.cholesky((vectors * numpy.maximum(values, 1e-2)) @ vectors.T)
