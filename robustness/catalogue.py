"""Every attack by name: suites, our own, `foolbox:Class` and `cleverhans:function`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness.attacks import ATTACKS
from assaymark.robustness.black_box import Access
from assaymark.robustness.borrowed import (
    check_options,
    find_cleverhans,
    find_foolbox,
    knowledge_of,
)
from assaymark.robustness.suites import SUITES
from assaymark.robustness.types import Attack, Norm

_CONTRACT = {"model", "x", "y", "eps", "norm", "targeted", "streams"}
_ENOUGH: dict[Access, tuple[str, ...]] = {
    "white-box": ("white-box", "transfer", "scores", "labels", "none"),
    "scores": ("scores", "labels", "none"),
    "labels": ("labels", "none"),
}
_CARRIED = ("white-box", "transfer")
"""What an attack that is made on surrogates needs of them."""


def find(name: str, options: dict[str, Any], norm: Norm) -> Attack:
    """The attack called `name`, with its options bound.

    Raises InputError for an unknown name or option, or an attack of another norm.
    """
    family, _, rest = name.partition(":")
    if not rest:
        if name not in ATTACKS:
            raise InputError(
                f'unknown attack "{name}"{_close(name)} the suites '
                f"{', '.join(SUITES)}, the attacks {', '.join(ATTACKS)}, and every attack of "
                '"foolbox:…" and "cleverhans:…" (assaymark attack --list)'
            )
        card = ATTACKS[name]
        if norm not in card.norms:
            raise InputError(
                f"{name} works in {' '.join(card.norms)}, the check says {norm}: choose an attack of "
                "that norm"
            )
        run = card.run
        check_options(name, options, set(inspect.signature(run).parameters) - _CONTRACT)
        return partial(run, **options)
    if family == "foolbox":
        return find_foolbox(rest, options, norm)
    if family == "cleverhans":
        return find_cleverhans(rest, options, norm)
    raise InputError(f'unknown attack family "{family}" in "{name}"; known: foolbox, cleverhans')


def build(
    attacks: Sequence[tuple[str, Mapping[str, Any]]],
    norm: Norm,
    *,
    gradient: bool = True,
    carry: Callable[[str, Attack], Attack] | None = None,
) -> dict[str, Attack]:
    """The attacks by the names that the report shows; a suite is unfolded into its stages.

    gradient: whether the model has one; a suite does with random search where it has none. carry: makes
    an attack on surrogates of one by gradients, which is then called "… on surrogates".
    Two entries may use one attack with different options: "pgd", "pgd #2". Raises InputError for what
    cannot be built.
    """
    runs: dict[str, Attack] = {}
    for name, options in attacks:
        if name in SUITES:
            check_options(name, dict(options), set())
            found = SUITES[name].stages(norm, gradient=gradient)
        else:
            found = {name: find(name, dict(options), norm)}
        for stage, run in found.items():
            made_on = carry if knowledge(name) in _CARRIED else None
            label = f"{stage} on surrogates" if made_on else stage
            times = len([key for key in runs if key.split(" #")[0] == label])
            label = f"{label} #{times + 1}" if times else label
            runs[label] = made_on(label, run) if made_on else run
    return runs


def knowledge(name: str) -> str:
    """What an attack must see of a model; suites and what is not known see all of it."""
    if ":" in name:
        return knowledge_of(name)
    return ATTACKS[name].knowledge if name in ATTACKS else "white-box"


def asks_itself(name: str) -> bool:
    """Whether an attack is led by the scores or labels of the attacked model itself."""
    return name in SUITES or knowledge(name) in ("scores", "labels")


def can_see(name: str, access: Access, norm: Norm, model: str, *, surrogates: bool = False) -> None:
    """Raises InputError when an attack needs more of a model than can be seen of it.

    surrogates: whether there are some, on which attacks by gradients are made.
    """
    needs = knowledge(name)
    if needs in _ENOUGH[access] or (surrogates and needs in _CARRIED):
        return
    ours = [
        key
        for key, card in ATTACKS.items()
        if card.knowledge in _ENOUGH[access] and norm in card.norms
    ]
    theirs = {"linf": ["HopSkipJumpAttack"], "l2": ["HopSkipJumpAttack", "BoundaryAttack"]}
    works = [*ours, *(f"foolbox:{key}" for key in theirs.get(norm, ["PointwiseAttack"]))]
    raise InputError(
        f"{name} needs {'scores' if needs == 'scores' else 'gradients'}, and of {model} only {access} "
        f"are seen: attack it with {', '.join(works)}"
        + (", or name surrogates" if needs in _CARRIED else "")
    )


def _close(name: str) -> str:
    """`: did you mean "x"?` where something is near; the list of all follows in any case."""
    said = nearest(name, [*SUITES, *ATTACKS])
    return f"{said} Known are" if said.startswith(":") else "; known are"
