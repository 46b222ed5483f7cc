"""Every attack by name: suites, our own, `foolbox:Class` and `cleverhans:function`."""

import inspect
from collections.abc import Mapping, Sequence
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


def find(name: str, options: dict[str, Any], norm: Norm) -> Attack:
    """The attack called `name`, with its options bound.

    Raises InputError for an unknown name or option, or an attack of another norm.
    """
    family, _, rest = name.partition(":")
    if not rest:
        if name not in ATTACKS:
            raise InputError(
                f'unknown attack "{name}"{_close(name)}; known are the suites '
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
    attacks: Sequence[tuple[str, Mapping[str, Any]]], norm: Norm, *, gradient: bool = True
) -> dict[str, Attack]:
    """The attacks by the names that the report shows; a suite is unfolded into its stages.

    gradient: whether the model has one; a suite does with random search where it has none.
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
        for label, run in found.items():
            times = len([key for key in runs if key.split(" #")[0] == label])
            runs[f"{label} #{times + 1}" if times else label] = run
    return runs


def knowledge(name: str) -> str:
    """What an attack must see of a model; suites and what is not known see all of it."""
    if ":" in name:
        return knowledge_of(name)
    return ATTACKS[name].knowledge if name in ATTACKS else "white-box"


def can_see(name: str, access: Access, norm: Norm, model: str) -> None:
    """Raises InputError when an attack needs more of a model than can be seen of it."""
    needs = knowledge(name)
    if needs in _ENOUGH[access]:
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
    )


def _close(name: str) -> str:
    """`: did you mean "x"?` where something is near; the list of all follows in any case."""
    said = nearest(name, [*SUITES, *ATTACKS])
    return said if said.startswith(":") else ""
