"""What one file comes to in a check: its state and the rules that it breaks, small enough to keep."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from assaymark.provenance.case import Case
from assaymark.provenance.ocsp import Responders
from assaymark.provenance.rules import Broken, judge
from assaymark.provenance.trust import NOBODY, Trust
from assaymark.provenance.verification import State, Verification
from assaymark.provenance.verify import examine
from assaymark.reports.model import Node


@dataclass(frozen=True, kw_only=True)
class Asking:
    """Whether responders that certificates name may be asked, and how; this uses the network."""

    timeout_s: float = 2.0
    private_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Demands:
    """What every file is held to.

    rules: parameters by a rule's key (`rules.RULES`). revocation_lists: files with CRLs. facts: keep
    all that the credentials of a file say.
    """

    trust: Trust = NOBODY
    rules: Mapping[str, Any] = field(default_factory=dict)
    asking: Asking | None = None
    revocation_lists: tuple[Path, ...] = ()
    facts: bool = False


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One file's outcome without the engine's whole report."""

    path: Path
    state: State
    explanation: str
    signer: str = ""
    generator: str = ""
    codes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tree: Node | None = None
    broken: tuple[Broken, ...] = ()
    facts: Mapping[str, Any] | None = None

    @property
    def compliant(self) -> bool:
        return not self.broken


def look(demands: Demands, path: Path) -> Checked:
    """Examine a file and ask the rules; never raises for what the file holds."""
    found = examine(path, demands.trust)
    responders = _responders(demands.asking) if demands.asking else None
    case = Case(
        found=found,
        trust=demands.trust,
        responders=responders,
        revocation_lists=demands.revocation_lists,
    )
    broken = judge(case, demands.rules) if demands.rules else ()
    return Checked(
        path=found.path,
        state=found.state,
        explanation=found.explanation,
        signer=found.signer,
        generator=found.generator,
        codes=found.codes,
        notes=found.notes,
        tree=found.tree,
        broken=broken,
        facts=_facts(found, broken) if demands.facts else None,
    )


def _facts(found: Verification, broken: tuple[Broken, ...]) -> dict[str, Any]:
    return {**found.facts(), "broken_rules": [asdict(item) for item in broken]}


def crashed(path: Path) -> Checked:
    """The outcome of a file that ended the process which examined it."""
    return Checked(
        path=path,
        state=State.UNREADABLE,
        explanation="examining it ended the process, so nothing vouches for it",
    )


@lru_cache(maxsize=4)
def _responders(asking: Asking) -> Responders:
    """One memory a process: who does not answer is waited for once."""
    return Responders(timeout_s=asking.timeout_s, private_hosts=asking.private_hosts)
