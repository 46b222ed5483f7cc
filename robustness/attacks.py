"""Our own attacks: pure functions from images to images, in one table."""

from dataclasses import dataclass
from typing import Literal

from assaymark.robustness.apgd import apgd_ce, apgd_dlr, apgd_t
from assaymark.robustness.carlini_wagner import carlini_wagner
from assaymark.robustness.ddn import ddn
from assaymark.robustness.deepfool import deepfool
from assaymark.robustness.elastic_net import ead
from assaymark.robustness.expectation import eot_pgd
from assaymark.robustness.fab import fab, fab_t
from assaymark.robustness.fmn import fmn
from assaymark.robustness.gradient_estimates import nes, spsa
from assaymark.robustness.gradient_steps import bim, fgsm, pgd, rfgsm
from assaymark.robustness.simba import simba
from assaymark.robustness.sparse import jsma, sigma_zero
from assaymark.robustness.sparse_search import sparse_rs
from assaymark.robustness.square import square
from assaymark.robustness.transfer import (
    di_fgsm,
    mi_fgsm,
    ni_fgsm,
    si_ni_fgsm,
    ti_fgsm,
    vmi_fgsm,
)
from assaymark.robustness.types import Attack, Norm

Knowledge = Literal["white-box", "transfer", "scores", "labels", "none"]
Goal = Literal["fixed", "nearest"]
"""fixed: looks inside a ball of eps. nearest: looks for the least change, and takes eps = inf."""


@dataclass(frozen=True, kw_only=True)
class AttackCard:
    """An attack of the table with what a reader of the list wants to know."""

    run: Attack
    knowledge: Knowledge
    norms: tuple[Norm, ...]
    paper: str
    goal: Goal = "fixed"
    targeted: bool = True
    """Whether it can be aimed at a class."""


ATTACKS: dict[str, AttackCard] = {
    "fgsm": AttackCard(
        run=fgsm,
        knowledge="white-box",
        norms=("linf", "l2", "l1"),
        paper="Goodfellow et al. 2015, arXiv 1412.6572",
    ),
    "rfgsm": AttackCard(
        run=rfgsm,
        knowledge="white-box",
        norms=("linf", "l2"),
        paper="Tramèr et al. 2018, arXiv 1705.07204",
    ),
    "bim": AttackCard(
        run=bim,
        knowledge="white-box",
        norms=("linf", "l2"),
        paper="Kurakin et al. 2017, arXiv 1607.02533",
    ),
    "pgd": AttackCard(
        run=pgd,
        knowledge="white-box",
        norms=("linf", "l2"),
        paper="Madry et al. 2018, arXiv 1706.06083",
    ),
    "square": AttackCard(
        run=square,
        knowledge="scores",
        norms=("linf", "l2", "l1"),
        paper="Andriushchenko et al. 2020, arXiv 1912.00049",
    ),
    "sparse-rs": AttackCard(
        run=sparse_rs,
        knowledge="scores",
        norms=("l0",),
        paper="Croce et al. 2022, arXiv 2006.12834",
    ),
    "apgd-ce": AttackCard(
        run=apgd_ce,
        knowledge="white-box",
        norms=("linf", "l2", "l1"),
        paper="Croce and Hein 2020, arXiv 2003.01690; L1: 2021, arXiv 2103.01208",
    ),
    "apgd-dlr": AttackCard(
        run=apgd_dlr,
        knowledge="white-box",
        norms=("linf", "l2", "l1"),
        paper="Croce and Hein 2020, arXiv 2003.01690; L1: 2021, arXiv 2103.01208",
    ),
    "apgd-t": AttackCard(
        run=apgd_t,
        knowledge="white-box",
        norms=("linf", "l2", "l1"),
        paper="Croce and Hein 2020, arXiv 2003.01690; L1: 2021, arXiv 2103.01208",
        targeted=False,
    ),
    "eot-pgd": AttackCard(
        run=eot_pgd,
        knowledge="white-box",
        norms=("linf", "l2"),
        paper="Athalye et al. 2018, arXiv 1707.07397",
    ),
    "fab": AttackCard(
        run=fab,
        knowledge="white-box",
        norms=("linf", "l2", "l1"),
        paper="Croce and Hein 2020, arXiv 1907.02044",
        goal="nearest",
    ),
    "fab-t": AttackCard(
        run=fab_t,
        knowledge="white-box",
        norms=("linf", "l2", "l1"),
        paper="Croce and Hein 2020, arXiv 2003.01690",
        goal="nearest",
    ),
    "deepfool": AttackCard(
        run=deepfool,
        knowledge="white-box",
        norms=("linf", "l2"),
        paper="Moosavi-Dezfooli et al. 2016, arXiv 1511.04599",
        goal="nearest",
        targeted=False,
    ),
    "ddn": AttackCard(
        run=ddn,
        knowledge="white-box",
        norms=("l2",),
        paper="Rony et al. 2019, arXiv 1811.09600",
        goal="nearest",
    ),
    "fmn": AttackCard(
        run=fmn,
        knowledge="white-box",
        norms=("linf", "l2", "l1", "l0"),
        paper="Pintor et al. 2021, arXiv 2102.12827",
        goal="nearest",
    ),
    "carlini-wagner": AttackCard(
        run=carlini_wagner,
        knowledge="white-box",
        norms=("l2",),
        paper="Carlini and Wagner 2017, arXiv 1608.04644",
        goal="nearest",
    ),
    "ead": AttackCard(
        run=ead,
        knowledge="white-box",
        norms=("l1",),
        paper="Chen et al. 2018, arXiv 1709.04114",
        goal="nearest",
    ),
    "sigma-zero": AttackCard(
        run=sigma_zero,
        knowledge="white-box",
        norms=("l0",),
        paper="Cinà et al. 2025, arXiv 2402.01879",
        goal="nearest",
    ),
    "jsma": AttackCard(
        run=jsma,
        knowledge="white-box",
        norms=("l0",),
        paper="Papernot et al. 2016, arXiv 1511.07528",
        goal="nearest",
    ),
    "nes": AttackCard(
        run=nes,
        knowledge="scores",
        norms=("linf", "l2"),
        paper="Ilyas et al. 2018, arXiv 1804.08598",
    ),
    "spsa": AttackCard(
        run=spsa,
        knowledge="scores",
        norms=("linf", "l2"),
        paper="Uesato et al. 2018, arXiv 1802.05666",
    ),
    "simba": AttackCard(
        run=simba,
        knowledge="scores",
        norms=("l2", "linf"),
        paper="Guo et al. 2019, arXiv 1905.07121",
    ),
    "mi-fgsm": AttackCard(
        run=mi_fgsm,
        knowledge="transfer",
        norms=("linf", "l2"),
        paper="Dong et al. 2018, arXiv 1710.06081",
    ),
    "ni-fgsm": AttackCard(
        run=ni_fgsm,
        knowledge="transfer",
        norms=("linf", "l2"),
        paper="Lin et al. 2020, arXiv 1908.06281",
    ),
    "si-ni-fgsm": AttackCard(
        run=si_ni_fgsm,
        knowledge="transfer",
        norms=("linf", "l2"),
        paper="Lin et al. 2020, arXiv 1908.06281",
    ),
    "di-fgsm": AttackCard(
        run=di_fgsm,
        knowledge="transfer",
        norms=("linf", "l2"),
        paper="Xie et al. 2019, arXiv 1803.06978",
    ),
    "ti-fgsm": AttackCard(
        run=ti_fgsm,
        knowledge="transfer",
        norms=("linf", "l2"),
        paper="Dong et al. 2019, arXiv 1904.02884",
    ),
    "vmi-fgsm": AttackCard(
        run=vmi_fgsm,
        knowledge="transfer",
        norms=("linf", "l2"),
        paper="Wang and He 2021, arXiv 2103.15571",
    ),
}
