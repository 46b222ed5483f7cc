"""How a tournament was measured, and what it did not test."""

from collections.abc import Sequence

from assaymark.reports.model import Method
from assaymark.robustness import catalogue
from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.check import NORM_NAMES
from assaymark.robustness.images import ImageData
from assaymark.robustness.models import Loaded
from assaymark.robustness.suites import SUITES
from assaymark.robustness.tournament import Named, Rules, Tournament
from assaymark.robustness.tournament_attacks import SHARE, eight_bit_steps


def method(
    check: str,
    defenses: Sequence[Loaded],
    surrogates: Sequence[Loaded],
    data: ImageData,
    rules: Rules,
    played: Tournament,
    seed: int,
) -> Method:
    n = played.games.n
    drawn = "" if n == len(data.images) else f", drawn at random with seed {seed}"
    blind = rules.protocol == "nips17"
    ball = (
        f"L∞ ≤ {eight_bit_steps(rules.eps)}/255"
        if blind
        else f"{NORM_NAMES[rules.norm]} ≤ {rules.eps:.4g}"
    )
    steps = [
        f"{n} images of {data.name}{drawn}, the same for all; threat model {ball}, pixels in [0, 1]. "
        f"Defenses: {', '.join(defense.name for defense in defenses)}.",
        f"Attacks: {_listed(rules.attacks)}. Targeted: {_listed(rules.targeted)}"
        + (f", towards a {rules.target} class of each image." if rules.targeted else "."),
        _blind_steps(surrogates, rules) if blind else _seeing_steps(),
        "Scores are those of the NIPS 2017 competition: a defense has a point for each correct answer "
        "under an untargeted or targeted attack, an untargeted attack one for each answer that is not "
        "correct, a targeted attack one for each answer that is its target class. A game that raised or "
        "was over its time has no number: nobody has points from it, and who took part is not placed.",
        "The worst case counts images classified correctly unattacked and under every attack at once; "
        "the mean counts answers, and weak attacks raise it.",
        "Intervals of cells and of the worst case are exact two-sided Clopper–Pearson intervals, those of "
        "means are Korn and Graubard's with images as clusters. Neighbours in a ranking are compared by an "
        "exact sign test over images, which for the worst case is McNemar's; above 5 % they are a tie.",
    ]
    known = {surrogate.sha256 or surrogate.name for surrogate in surrogates}
    steps += [
        f"{defense.name} is a surrogate and a defense itself: against it these are white-box attacks."
        for defense in defenses
        if (defense.sha256 or defense.name) in known
    ]
    limit = rules.time_limit
    if limit is not None:
        steps.append(f"Time limit: {limit:g} s for every {SHARE} images of one game.")
    steps += [f"{defense.name}: {defense.note}." for defense in defenses if defense.note]
    repairs = [
        f"{name}: {repair}." for name, seen in played.masking.items() for repair in seen.repairs
    ]
    sources = ["Kurakin et al. 2018, arXiv 1804.00097"]
    for name, _ in (*rules.attacks, *rules.targeted):
        if name in ATTACKS:
            sources.append(ATTACKS[name].paper)
        elif name in SUITES:
            sources += SUITES[name].papers
    sources.append("McNemar 1947, Psychometrika 12")
    return Method(
        check=check,
        title=f"Tournament, attacks × defenses: {len(played.games.known)} × {len(defenses)}",
        steps=tuple(steps + repairs),
        not_tested=tuple(_untested(ball, surrogates, data, rules, played)),
        sources=tuple(dict.fromkeys(sources)),
    )


def _listed(attacks: Sequence[Named]) -> str:
    described = []
    for name, options in attacks:
        settings = ", ".join(f"{key} = {value}" for key, value in options.items())
        described.append(f"{name} ({settings})" if settings else name)
    return "; ".join(described) or "none"


def _seeing_steps() -> str:
    return (
        "Protocol white-box: every attack is run on every defense by itself, with all that an attacker "
        "sees of it; what hides its gradient is looked for and worked around. An image that an untargeted "
        "attack finds misclassified already counts as lost. A fall is confirmed alone, in float32. A "
        "defense that may reject keeps an attacked image by rejecting it, and loses an unattacked one."
    )


def _blind_steps(surrogates: Sequence[Loaded], rules: Rules) -> str:
    names = ", ".join(surrogate.name for surrogate in surrogates)
    once = "their mean logits" if rules.ensemble else "each of them"
    on = f"{once} ({names})" if len(surrogates) > 1 else names
    return (
        f"Protocol nips17: an attack does not know which defense it meets. It is run on {on}; its images "
        "are rounded to 8 bits, clipped to the ball around the image, which is rounded too, and the same "
        "ones go to every defense, which answers once. A rejection is no correct answer. Attacks that "
        "could stop when the surrogate is fooled go on."
    )


def _untested(
    ball: str, surrogates: Sequence[Loaded], data: ImageData, rules: Rules, played: Tournament
) -> list[str]:
    names = [name for name, _ in (*rules.attacks, *rules.targeted)]
    untested = [
        f"perturbations outside {ball}, such as rotations, patches and common corruptions",
        "attacks that are not listed: every accuracy is an upper bound, a stronger attack can only "
        "lower it",
    ]
    if rules.protocol == "nips17":
        untested.insert(
            0,
            "attackers who see the defense they attack: a good number says that these images do not carry "
            "over from "
            + " and ".join(surrogate.name for surrogate in surrogates)
            + ", not that the defense is robust (protocol white-box)",
        )
    elif not any(name in SUITES for name in names):
        untested.append("a suite of attacks such as standard, which adapts to each image")
    if not any(
        catalogue.knowledge(name) in ("scores", "labels") or name in SUITES for name in names
    ):
        untested.append("black-box attacks, which would reveal masked gradients")
    if not rules.targeted:
        untested.append("targeted attacks")
    if not rules.attacks:
        untested.append("untargeted attacks")
    untested += [
        f"{missing.images} of {played.games.n} images of "
        f"{missing.attack or 'the unattacked game'} against {missing.defense or 'every defense'}: "
        f"{missing.reason}"
        for missing in played.missing
    ]
    if played.games.n < len(data.images):
        untested.append(
            f"{len(data.images) - played.games.n} of {len(data.images)} images of {data.name}, which were "
            "not used"
        )
    if data.skipped:
        untested.append(
            f"{len(data.skipped)} files of {data.name} that are no pictures by their name, such as "
            f"{data.skipped[0]}"
        )
    return untested
