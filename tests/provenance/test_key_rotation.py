"""Key folders: what is in them, and what rotating, revoking and requesting leave behind."""

import datetime as dt
import io
import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import c2pa
import pytest
from certificates_for_tests import Line, named
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from engines_for_tests import context, read, second, signed

from assaymark.provenance import certificates
from assaymark.provenance.describe_keys import describe, describe_all
from assaymark.provenance.key_folder import archived, read_index
from assaymark.provenance.key_requests import install, new_request
from assaymark.provenance.key_rotation import REASONS, revoke, rotate
from assaymark.provenance.keys import (
    load_anchors,
    load_credentials,
    new_chain,
    write_chain,
)
from assaymark.reports.errors import InputError

SECRET = b"secret"


def folder_of(path: Path, algorithm: str = "es256", **options: str) -> Path:
    write_chain(new_chain("Example Press", algorithm=algorithm, **options), path, SECRET)  # type: ignore[arg-type]
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "keys")


@pytest.fixture(autouse=True)
def quick_rsa(monkeypatch: pytest.MonkeyPatch) -> None:
    """3,072 bits take a second to make, and nothing here depends on their number."""
    monkeypatch.setattr(certificates, "_RSA_BITS", 2048)


def load(folder: Path, name: str = ""):  # type: ignore[no-untyped-def]
    return load_credentials(folder / f"{name}chain.pem", folder / f"{name}key.pem", SECRET)


def openssl(*arguments: str | Path, fails: bool = False) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    assert (done.returncode != 0) is fails, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("algorithm", ["es256", "es512", "ps256", "ed25519"])
def test_openssl_accepts_what_a_folder_holds(tmp_path: Path, algorithm: str) -> None:
    keys = folder_of(tmp_path / "k", algorithm, ocsp_url="http://127.0.0.1:9/ocsp")
    trust: list[str | Path] = [
        "-x509_strict",
        "-CAfile",
        keys / "root.pem",
        "-untrusted",
        keys / "intermediate.pem",
    ]
    openssl("verify", *trust, keys / "chain.pem")
    openssl("verify", *trust, "-purpose", "timestampsign", keys / "tsa.pem")
    openssl("verify", *trust, "-purpose", "ocsphelper", keys / "ocsp.pem")
    openssl("verify", *trust, "-purpose", "timestampsign", keys / "chain.pem", fails=True)
    shown = openssl("x509", "-in", keys / "ocsp.pem", "-noout", "-text")
    assert "OCSP No Check" in shown
    assert "http://127.0.0.1:9/ocsp" in openssl(
        "x509", "-in", keys / "chain.pem", "-noout", "-ocsp_uri"
    )
    for name in ("root", "intermediate", "tsa", "ocsp"):
        opened = openssl(
            "pkey", "-in", keys / f"{name}.key.pem", "-passin", "pass:secret", "-pubout"
        )
        assert opened == openssl("x509", "-in", keys / f"{name}.pem", "-noout", "-pubkey")


def test_the_time_stamping_certificate_is_for_nothing_else(folder: Path) -> None:
    for name, purpose, critical in (
        ("tsa", ExtendedKeyUsageOID.TIME_STAMPING, True),
        ("ocsp", ExtendedKeyUsageOID.OCSP_SIGNING, False),
    ):
        certificate = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        assert list(usage.value) == [purpose]
        assert usage.critical is critical
    chain = x509.load_pem_x509_certificates((folder / "tsa-chain.pem").read_bytes())
    chain[0].verify_directly_issued_by(chain[1])


@pytest.fixture
def authority(folder: Path, tmp_path: Path) -> Iterator[str]:
    """The URL of a time-stamping authority: `openssl ts` with the folder's key."""
    openssl(
        "pkey", "-in", folder / "tsa.key.pem", "-passin", "pass:secret", "-out", tmp_path / "key"
    )
    (tmp_path / "serial").write_text("01\n")
    (tmp_path / "conf").write_text(
        f"[tsa]\nserial={tmp_path}/serial\nsigner_cert={folder}/tsa.pem\ncerts={folder}/tsa-chain.pem\n"
        f"signer_key={tmp_path}/key\nsigner_digest=sha256\ndefault_policy=1.2.3.4\ndigests=sha256\n"
    )

    class Reply(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (tmp_path / "q").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            openssl(
                "ts", "-reply", "-config", tmp_path / "conf", "-section", "tsa",
                "-queryfile", tmp_path / "q", "-out", tmp_path / "r",
            )  # fmt: skip
            data = (tmp_path / "r").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Reply) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("remote", [False, True], ids=["in memory", "remote"])
def test_a_time_stamp_with_the_folders_key_is_trusted(
    folder: Path, tmp_path: Path, authority: str, remote: bool
) -> None:
    credentials = load(folder)
    if remote:
        (tmp_path / "open.pem").write_text(credentials.key_pem)
        key = FileKey(path=tmp_path / "open.pem")
        credentials = replace(credentials, key_pem="", remote=key)
    data = signed(credentials, authority)
    anchors = (folder / "root.pem").read_text()
    with (
        context(anchors) as settings,
        c2pa.Reader("image/jpeg", io.BytesIO(data), context=settings) as it,
    ):
        found = json.loads(it.json())
    codes = {item["code"] for item in found["validation_results"]["activeManifest"]["success"]}
    assert {"timeStamp.validated", "timeStamp.trusted", "signingCredential.trusted"} <= codes
    openssl(
        "ts", "-verify", "-queryfile", tmp_path / "q", "-in", tmp_path / "r",
        "-CAfile", folder / "root.pem", "-untrusted", folder / "intermediate.pem",
    )  # fmt: skip


@dataclass(frozen=True)
class FileKey:
    """The least that a remote key can be: a path, and `sign`."""

    path: Path

    def sign(self, data: bytes) -> bytes:
        key = load_pem_private_key(self.path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_describe_agrees_with_openssl(tmp_path: Path) -> None:
    keys = folder_of(tmp_path / "k", ocsp_url="http://ocsp.example/")
    found = describe(keys)
    shown = openssl(
        "x509", "-in", keys / "chain.pem", "-noout", "-serial", "-fingerprint", "-sha256"
    )
    assert f"serial={found.serial}\n" in shown
    assert found.fingerprint.upper() in shown.replace(":", "")
    assert (found.organization, found.algorithm, found.status) == (
        "Example Press",
        "es256",
        "current",
    )
    assert found.issuer == "CN=Example Press CA,O=Example Press"
    assert found.purposes == ("c2pa-kp-claimSigning", "documentSigning", "emailProtection")
    assert found.ocsp_url == "http://ocsp.example/"
    assert found.days_left == 364
    assert (found.refused, found.warnings) == ((), ())
    later = describe(keys, at=dt.datetime.now(dt.UTC) + dt.timedelta(days=400))
    assert (later.status, later.days_left) == ("expired", -36)
    assert "today is" in later.refused[0]
    private = (keys / "key.pem").read_text().splitlines()[1]
    assert private not in repr(found)


def test_a_loose_certificate_is_unmanaged(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "loose.pem").write_bytes((folder / "chain.pem").read_bytes())
    found = describe(tmp_path / "loose.pem")
    assert (found.status, found.ocsp_url, found.serial) == (
        "unmanaged",
        None,
        describe(folder).serial,
    )
    assert "is a CA" in describe(folder / "root.pem").refused[0]


@pytest.mark.parametrize("algorithm", [None, "ed25519", "es512"])
def test_rotating_keeps_old_signatures_and_changes_the_key(
    folder: Path, algorithm: str | None
) -> None:
    before = load(folder)
    old, anchors = signed(before), (folder / "root.pem").read_text()
    found = rotate(folder, SECRET, days=30, algorithm=algorithm)
    after = load(folder)
    assert (found.status, found.algorithm) == ("current", algorithm or "es256")
    assert found.days_left == 29
    assert after.algorithm == found.algorithm
    assert (after.key_pem == before.key_pem, after.chain_pem == before.chain_pem) == (False, False)
    for data in (old, signed(after)):
        assert (read(data, anchors), second(data, anchors)) == ("Trusted", "Trusted")
    (kept,) = archived(folder)
    assert describe(kept).status == "rotated"
    assert [item.status for item in describe_all(folder)] == ["current", "rotated"]
    serial = kept.name.split(".")[0]
    archive = load(folder, f"archive/{serial}.")
    assert archive == before
    assert "replaced by a newer one" in archive.warnings[0]
    private = folder / "archive" / f"{serial}.key.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600


def test_a_ps512_folder_stays_one(tmp_path: Path) -> None:
    keys = folder_of(tmp_path / "k", "ps512")
    rotate(keys, SECRET)
    made = load(keys)
    assert made.algorithm == "ps512"
    assert second(signed(made), (keys / "root.pem").read_text()) == "Trusted"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"passphrase": b"wrong"}, "the passphrase does not open"),
        ({"passphrase": b""}, "an empty passphrase"),
        ({"days": 0}, "1 to 3650 days, got 0"),
        ({"days": 3000}, "the intermediate ends on"),
        ({"algorithm": "es265"}, 'did you mean "es256"'),
    ],
    ids=["passphrase", "empty", "days", "too long", "algorithm"],
)
def test_a_refused_rotation_changes_nothing(
    folder: Path, arguments: dict[str, object], expected: str
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError) as caught:
        rotate(folder, **({"passphrase": SECRET} | arguments))  # type: ignore[arg-type]
    assert expected in str(caught.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_is_no_key_folder(tmp_path: Path) -> None:
    for work in (lambda: rotate(tmp_path, SECRET), lambda: revoke(tmp_path, SECRET)):
        with pytest.raises(InputError, match="is not a folder of keys"):
            work()
    with pytest.raises(InputError, match="cannot open"):
        rotate(tmp_path / "none", SECRET)


ESCAPING = {
    "schema": 1,
    "current": "../x",
    "pairs": [{"serial": "../x", "algorithm": "es256", "created": ""}],
    "revoked": [],
    "crl_number": 0,
}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": 9}', '{"schema": 1}', "null", "\xff", json.dumps(ESCAPING)]
)
def test_a_broken_index_is_never_taken_for_an_empty_one(folder: Path, text: str) -> None:
    (folder / "keys.json").write_bytes(text.encode("latin-1"))
    for work in (lambda: load(folder), lambda: rotate(folder, SECRET), lambda: describe(folder)):
        with pytest.raises(InputError, match="is not an index of keys"):
            work()


def test_a_folder_from_before_the_index(folder: Path) -> None:
    (folder / "keys.json").unlink()
    assert load(folder).algorithm == "es256"
    assert describe(folder).status == "unmanaged"
    rotate(folder, SECRET)
    assert [item.status for item in describe_all(folder)] == ["current", "rotated"]


KILLED = """
import os, signal, sys
from pathlib import Path
from assaymark.provenance.key_rotation import rotate
folder, step = Path(sys.argv[1]), int(sys.argv[2])
count = 0
def hook(event, arguments):
    global count
    changes = event in ("os.rename", "os.remove", "os.mkdir") or (
        event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT)
    if changes and str(folder) in str(arguments[0]):
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
for attempt in range(int(sys.argv[3])):
    if step or attempt == 0:
        rotate(folder, b"secret")
print(count)
"""
MANY = """
import os, sys, shutil
code = sys.stdin.read()
kept, folders = sys.argv[1], sys.argv[2]
for step in range(40):
    folder = f"{folders}/{step}"
    shutil.copytree(kept, folder)
    import assaymark.provenance.key_rotation
    child = os.fork()
    if child == 0:
        sys.argv = ["-c", folder, str(step), "1"]
        exec(compile(code, "killed", "exec"))
        sys.stdout.flush()
        os._exit(0)
    print(step, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_killed_at_any_step_a_folder_still_signs(folder: Path, tmp_path: Path) -> None:
    anchors = (folder / "root.pem").read_text()
    copies = tmp_path / "copies"
    copies.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(folder), str(copies)],
        input=KILLED,
        capture_output=True,
        text=True,
        check=True,
    )
    ends = [line.split() for line in done.stdout.splitlines() if line.count(" ") == 1]
    killed = [int(step) for step, code in ends if code == "-9"]
    assert len(ends) == 40
    assert killed == list(range(1, len(killed) + 1))
    assert len(killed) >= 8  # every file that a rotation makes, moves or removes
    first = load(folder)
    outcomes = set()
    for step in killed:
        copy = copies / str(step)
        after = load(copy)
        outcomes.add(after == first)
        assert describe(copy).status == "current"
        assert read(signed(after), anchors) == "Trusted"
        rotate(copy, SECRET)
        assert load(copy) != after
        assert not list(copy.rglob(".*"))
        assert len(archived(copy)) == len(read_index(copy).pairs) - 1  # type: ignore[union-attr]
    assert outcomes == {True, False}  # some died before the new pair counted, some after


def test_rotating_in_two_processes_at_once(folder: Path) -> None:
    jobs = [
        subprocess.Popen([sys.executable, "-c", KILLED, str(folder), "-1", "4"]) for _ in range(2)
    ]
    seen = set()
    while any(job.poll() is None for job in jobs):
        seen.add(load(folder).chain_pem)  # a reader never meets half of a pair
    assert [job.returncode for job in jobs] == [0, 0]
    assert len(archived(folder)) == 8
    assert len(read_index(folder).pairs) == 9  # type: ignore[union-attr]


def crl_of(folder: Path) -> str:
    return openssl(
        "crl", "-in", folder / "crl.pem", "-CAfile", folder / "intermediate.pem", "-noout", "-text"
    )


@pytest.mark.parametrize("algorithm", ["es256", "ps256", "ed25519"])
def test_openssl_reads_the_crl_and_refuses_the_certificate(tmp_path: Path, algorithm: str) -> None:
    keys = folder_of(tmp_path / "k", algorithm)
    serial = describe(keys).serial
    found = revoke(keys, SECRET, "current", "keyCompromise")
    assert (found.revocation.serial, found.crl) == (serial, keys / "crl.pem")
    shown = crl_of(keys)
    assert "verify OK" in shown
    assert f"Serial Number: {serial}" in shown
    assert "Key Compromise" in shown
    check: list[str | Path] = [
        "-crl_check",
        "-CRLfile",
        keys / "crl.pem",
        "-CAfile",
        keys / "root.pem",
    ]
    text = openssl(
        "verify", *check, "-untrusted", keys / "intermediate.pem", keys / "chain.pem", fails=True
    )
    assert "certificate revoked" in text
    assert describe(keys).status == "revoked"
    with pytest.raises(InputError, match=rf"{serial} in .* was revoked on .*keyCompromise.*rotate"):
        load(keys)
    rotate(keys, SECRET)
    assert load(keys).algorithm == algorithm
    openssl("verify", *check, "-untrusted", keys / "intermediate.pem", keys / "chain.pem")
    with pytest.raises(InputError, match="was revoked"):
        load(keys, f"archive/{serial}.")


def test_every_reason_and_every_certificate_of_the_folder_can_be_revoked(folder: Path) -> None:
    for reason in REASONS:
        revoke(folder, SECRET, describe(folder).serial.lower(), reason)
        rotate(folder, SECRET)
    tsa = x509.load_pem_x509_certificate((folder / "tsa.pem").read_bytes())
    revoke(folder, SECRET, f"0x{tsa.serial_number:x}")
    again = revoke(folder, SECRET, f"{tsa.serial_number:X}", "superseded")
    assert again.revocation.reason == "unspecified"  # the first word counts, the list is new
    crl = x509.load_pem_x509_crl((folder / "crl.pem").read_bytes())
    assert len(crl) == len(REASONS) + 1
    number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert number == len(REASONS) + 2
    assert "verify OK" in crl_of(folder)


@pytest.mark.parametrize(
    ("serial", "reason", "expected"),
    [
        ("12AB", "unspecified", "did not issue 12AB; known are"),
        ("current", "keycompromise", 'did you mean "keyCompromise"'),
    ],
)
def test_a_wrong_revocation_changes_nothing(
    folder: Path, serial: str, reason: str, expected: str
) -> None:
    before = (folder / "keys.json").read_text()
    with pytest.raises(InputError, match=expected):
        revoke(folder, SECRET, serial, reason)
    with pytest.raises(InputError, match="does not open"):
        revoke(folder, b"wrong")
    assert (folder / "keys.json").read_text() == before
    assert not (folder / "crl.pem").exists()


def answer(request: str, line: Line, **options: object) -> x509.Certificate:
    csr = x509.load_pem_x509_csr(request.encode())
    return line.leaf(subject=csr.subject, key=csr, **options)


def pem(*items: x509.Certificate) -> str:
    return "".join(item.public_bytes(Encoding.PEM).decode() for item in items)


@pytest.mark.parametrize("order", ["chain", "reversed", "with root"])
def test_a_real_ca_answers_a_request(folder: Path, tmp_path: Path, order: str) -> None:
    first, ca = load(folder), Line()
    request = new_request(folder, SECRET)
    (tmp_path / "csr").write_text(request)
    shown = openssl("req", "-in", tmp_path / "csr", "-noout", "-verify", "-subject")
    assert "verify OK" in shown
    assert "Example Press" in shown
    assert load(folder) == first  # the old pair signs until the answer is there
    assert new_request(folder, SECRET) == request
    leaf = answer(request, ca)
    parts = {"chain": (leaf, ca.issuer), "reversed": (ca.issuer, leaf)}
    found = install(folder, pem(*parts.get(order, (leaf, ca.issuer, ca.root))))
    assert (found.status, found.issuer) == ("current", named("CA").rfc4514_string())
    made = load(folder)
    assert made.chain_pem == pem(leaf, ca.issuer)
    assert second(signed(made), pem(ca.root)) == "Trusted"
    assert [item.status for item in describe_all(folder)] == ["current", "rotated"]
    assert not list(folder.glob("request*"))
    with pytest.raises(InputError, match=r"was issued by .*ask there for a new one"):
        rotate(folder, SECRET)
    gone = revoke(folder, SECRET)
    assert gone.crl is None  # only that CA can say so to others
    with pytest.raises(InputError, match="was revoked"):
        load(folder)


def test_a_request_says_what_is_asked_for(folder: Path) -> None:
    text = new_request(folder, SECRET, organization="New Press", name="desk", algorithm="ed25519")
    csr = x509.load_pem_x509_csr(text.encode())
    assert csr.subject.rfc4514_string() == "CN=desk,O=New Press"
    again = new_request(folder, SECRET, again=True)
    assert again != text
    with pytest.raises(InputError, match="does not open"):
        new_request(folder, b"wrong")
    ca = Line()
    with pytest.raises(InputError, match=r"none for the key of request\.pem"):
        install(folder, pem(answer(text, ca), ca.issuer))


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"purposes": ()}, "has no extendedKeyUsage"), ({"aki": False}, "authorityKeyIdentifier")],
    ids=["no EKU", "no AKI"],
)
def test_an_answer_that_cannot_sign_is_not_installed(
    folder: Path, change: dict[str, object], expected: str
) -> None:
    ca, first = Line(), load(folder)
    leaf = answer(new_request(folder, SECRET), ca, **change)
    with pytest.raises(InputError, match=expected):
        install(folder, pem(leaf, ca.issuer))
    for text, reason in (("", "holds 0 certificates"), (pem(ca.issuer), "none for the key")):
        with pytest.raises(InputError, match=reason):
            install(folder, text)
    assert load(folder) == first


def test_an_answered_request_is_not_made_again(folder: Path) -> None:
    ca, request = Line(), new_request(folder, SECRET)
    left = {path: path.read_bytes() for path in folder.glob("request*")}
    assert len(left) == 2
    install(folder, pem(answer(request, ca), ca.issuer))
    for path, data in left.items():  # as if the process had died before it removed them
        path.write_bytes(data)
    assert new_request(folder, SECRET) != request
    (folder / "request.pem").write_text("broken")
    with pytest.raises(InputError, match="is no certificate request"):
        new_request(folder, SECRET)
    assert "CERTIFICATE REQUEST" in new_request(folder, SECRET, again=True)


def test_an_answer_without_a_request(folder: Path) -> None:
    with pytest.raises(InputError, match="no request waits"):
        install(folder, load_anchors([folder / "root.pem"]))


def test_the_index_says_what_happened(folder: Path) -> None:
    old = describe(folder).serial
    rotate(folder, SECRET, algorithm="es384")
    revoke(folder, SECRET, old, "superseded")
    data = json.loads((folder / "keys.json").read_text())
    assert data["current"] == describe(folder).serial
    first, latest = data["pairs"]
    assert (first["serial"], first["algorithm"], first["own"]) == (old, "es256", True)
    assert first["created"] <= first["rotated"]
    assert (latest["rotated"], latest["algorithm"]) == ("", "es384")
    assert [(item["serial"], item["reason"]) for item in data["revoked"]] == [(old, "superseded")]
