"""What a race has done so far, in a folder: rounds as JSON, networks as safetensors, each written whole."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from assaymark.provenance.race_attacks import Cost, Photos
from assaymark.reports.errors import InputError
from assaymark.reports.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round. costs: of the two attackers. attacked, hardened: the AUC on the newest generation before
    and after hardening; perturbed: of the hardened detector on fakes perturbed against the one before.

    generations: the detector's AUC on each generation so far, resaved: the same after a JPEG of quality
    75; of the detector that was kept. clean, clean_fall: AUC on clean files before, and by how much it
    fell, with its 95 % interval over sources. kept: whether the hardened weights were taken.
    """

    number: int
    costs: tuple[Cost, ...]
    attacked: float
    hardened: float
    perturbed: float
    generations: tuple[float, ...]
    resaved: tuple[float, ...]
    clean: float
    clean_fall: float
    clean_fall_low: float
    clean_fall_high: float
    kept: bool


class Store:
    """A folder, or none. settings: what the race depends on; a folder of another race is refused."""

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        self._folder, self._settings = folder, dict(settings)

    @property
    def begun(self) -> bool:
        return self._folder is not None and (self._folder / "race.json").exists()

    def rounds(self) -> tuple[Round, ...]:
        """Those that are stored; raises InputError for a folder of other settings."""
        if self._folder is None or not self.begun:
            return ()
        path = self._folder / "race.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            same = stored["settings"] == json.loads(json.dumps(self._settings))
            rounds = tuple(_round(each) for each in stored["rounds"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path} is no race that was stored here ({error})") from error
        if not same:
            raise InputError(
                f"{path} is a race with other settings, photographs or networks: name another folder"
            )
        return rounds

    def recall(self, name: str, network: nn.Module) -> nn.Module:
        """The network with its stored weights; raises InputError where they do not fit."""
        assert self._folder is not None  # there are no rounds without a folder
        path = self._folder / f"{name}.safetensors"
        try:
            network.load_state_dict(load(path.read_bytes()))
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            why = str(error).splitlines()[0][:100]
            raise InputError(f"{path} does not hold the weights of this race: {why}") from error
        return network.eval()

    def keep(self, name: str, network: nn.Module) -> None:
        if self._folder is not None:
            write_atomically(self._folder / f"{name}.safetensors", save(_state(network)))

    def add(self, rounds: Sequence[Round]) -> None:
        """Written last: a round counts when its networks are stored."""
        if self._folder is not None:
            fields = {"settings": self._settings, "rounds": [asdict(each) for each in rounds]}
            write_atomically(self._folder / "race.json", json.dumps(fields, indent=1))


def first_or_stored(store: Store, make: Callable[[], nn.Module], like: nn.Module) -> nn.Module:
    """The generator that a race begins with: from the folder of this race, else a new one.

    It takes longer to make than a round, so it is kept before the first.
    """
    if store.begun:
        return store.recall("generator-0", like)
    made = make()
    store.keep("generator-0", made)
    store.add(())
    return made


def digest(networks: Sequence[nn.Module | None], photos: Sequence[Photos]) -> str:
    """SHA-256 of weights and photographs, 16 digits."""
    found = hashlib.sha256()
    for network in networks:
        found.update(b"none" if network is None else save(_state(network)))
    for each in photos:
        found.update(each.tobytes())
    return found.hexdigest()[:16]


def _state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {
        key: value.detach().cpu().contiguous().clone()
        for key, value in network.state_dict().items()
    }


def _round(fields: Mapping[str, Any]) -> Round:
    built = {
        "costs": tuple(Cost(**cost) for cost in fields["costs"]),
        "generations": tuple(fields["generations"]),
        "resaved": tuple(fields["resaved"]),
    }
    return Round(**{**fields, **built})
