"""What several revocation lists say together, and gates and logs that must not vanish or be empty."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authorities import EMAIL, NOW, authority, pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from media import media, write
from raw_signing import signed

from assaymark.provenance import checked
from assaymark.provenance.case import Case
from assaymark.provenance.certificates import Authority
from assaymark.provenance.check import check_provenance
from assaymark.provenance.checked import Demands
from assaymark.provenance.keys import Chain
from assaymark.provenance.log import append, write_checkpoint
from assaymark.provenance.log_file import LogEntry
from assaymark.provenance.rules import judge
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import examine
from assaymark.reports.model import Verdict

ROOT = authority("a root", ca=True)
MIDDLE = authority("an intermediate", ROOT, ca=True)
LEAF = authority("a signer", MIDDLE, purposes=EMAIL)
TRUST = Trust(signers=pem(ROOT))


def crl(issuer: Authority, revoked: tuple[Authority, ...] = (), days: int = 5) -> str:
    made = x509.CertificateRevocationListBuilder(
        issuer.certificate.subject, NOW - dt.timedelta(days=9), NOW + dt.timedelta(days=days)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder(one.certificate.serial_number, NOW)
        made = made.add_revoked_certificate(entry.build())
    found = made.sign(issuer.key, hashes.SHA256())
    return found.public_bytes(Encoding.PEM).decode()


LISTS = {
    "leaf good": crl(MIDDLE),
    "all good": crl(MIDDLE) + crl(ROOT),
    "root's": crl(ROOT),
    "out of date": crl(MIDDLE, days=-5),
    "leaf revoked": crl(MIDDLE, (LEAF,)),
    "above revoked": crl(ROOT, (MIDDLE,)),
}


@pytest.mark.parametrize(
    ("lists", "holds", "undecided"),
    [
        (("leaf good", "root's"), True, False),
        (("all good", "leaf revoked"), False, False),  # the first list says good of everything
        (("leaf good", "above revoked"), False, False),
        (("out of date",), False, True),
        (("root's",), False, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("how", ["if-stapled", "required"])
def test_all_lists_of_a_team_count(
    tmp_path: Path, lists: tuple[str, ...], holds: bool, undecided: bool, how: str
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(signed(media("JPEG"), LEAF, MIDDLE))
    files = [tmp_path / f"{number}.pem" for number, _ in enumerate(lists)]
    for file, name in zip(files, lists, strict=True):
        file.write_text(LISTS[name])
    case = Case(found=examine(path, TRUST), trust=TRUST, revocation_lists=tuple(files))
    broken = judge(case, {"revocation": how})
    assert (not broken, any(item.undecided for item in broken)) == (holds, undecided)


@pytest.mark.parametrize("rules", [{}, {"must_be_trusted": False}, {"revocation": "off"}])
def test_a_rule_that_is_not_asked_takes_no_gate_away(tmp_path: Path, rules: dict[str, Any]) -> None:
    write(tmp_path, "JPEG")
    found = check_provenance("c", (".",), Demands(rules=rules), folder=tmp_path)
    assert [finding.verdict for finding in found.findings] == [Verdict.FAIL]


def test_a_file_that_ends_its_process_has_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "JPEG")
    monkeypatch.setattr(
        "assaymark.provenance.check.look", lambda demands, path: checked.crashed(path)
    )
    records = tmp_path / "records.jsonl"
    check_provenance("c", (path.name,), Demands(), folder=tmp_path, records=records)
    record = json.loads(records.read_text())
    assert (record["path"], record["state"]) == (str(path), "unreadable")


def test_a_log_is_held_for_good_by_entries_and_by_whom_it_trusts(
    tmp_path: Path, chain: Chain, stranger: Chain, cli: Callable[..., Any]
) -> None:
    log, note = tmp_path / "log", tmp_path / "note"
    log.touch()
    assert cli("log", "check", "log").returncode == 2
    entry = LogEntry(
        time="2026-11-21T10:00:00Z",
        name="a.jpg",
        sha256="ab" * 32,
        manifest_sha256=None,
        signer="cd" * 32,
        format="image/jpeg",
    )
    append(log, entry)
    write_checkpoint(log, note, stranger.credentials)
    (tmp_path / "theirs.pem").write_text(stranger.credentials.chain_pem)
    (tmp_path / "ours.pem").write_text(chain.trust_anchor_pem)
    head = ("log", "check", "log", "--checkpoint", "note", "--signed-by", "theirs.pem")
    assert cli(*head, "--trust-anchor", "ours.pem").returncode == 1


@pytest.mark.parametrize(
    "given", [("revocation=required", "revocation=off"), ("max-age-days=1", "max-age-days=9")]
)
def test_a_rule_with_one_value_is_given_once(given: tuple[str, str]) -> None:
    from assaymark.cli.verify import _rules
    from assaymark.reports.errors import InputError

    with pytest.raises(InputError, match="was given before"):
        _rules(list(given))
    assert _rules(["allowed-signers=A", "allowed-signers=B"]) == {"allowed_signers": ["A", "B"]}
