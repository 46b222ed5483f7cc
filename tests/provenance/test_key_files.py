"""Keys and certificates in every kind of file that `openssl` writes."""

import functools
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from engines_for_tests import read, signed
from hypothesis import given
from hypothesis import strategies as st

from assaymark.provenance import certificates
from assaymark.provenance.key_files import needs_passphrase, parse_certificates
from assaymark.provenance.keys import (
    Chain,
    load_anchors,
    load_credentials,
    new_chain,
    passphrase_wanted,
)
from assaymark.reports.errors import InputError

PASS = ["-passout", "pass:secret"]


@functools.cache
def rsa_chain() -> Chain:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "_RSA_BITS", 2048)  # 3,072 bits take a second to make
        return new_chain("Example Press", algorithm="ps256")


@functools.cache
def small_chain(algorithm: str) -> Chain:
    return new_chain("Example Press", algorithm=algorithm)


def openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def files(folder: Path, chain: Chain) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    (folder / "in.key").write_text(chain.credentials.key_pem)
    (folder / "chain.pem").write_text(chain.credentials.chain_pem)
    return folder / "chain.pem", folder / "key"


def rewritten(change: Callable[[str], str]) -> Callable[[Path, Path], None]:
    return lambda source, out: (out.write_bytes(change(source.read_text()).encode()), None)[1]


def by_openssl(*arguments: str) -> Callable[[Path, Path], None]:
    return lambda source, out: openssl(arguments[0], "-in", source, "-out", out, *arguments[1:])


def with_parameters(source: Path, out: Path) -> None:
    """What `openssl ecparam -genkey` writes: the curve in a block of its own first."""
    openssl("ecparam", "-name", "prime256v1", "-out", out)
    second = out.with_suffix(".second")
    openssl("ec", "-in", source, "-out", second)
    out.write_bytes(out.read_bytes() + second.read_bytes())


def pkcs12(source: Path, out: Path) -> None:
    chain = source.with_name("chain.pem")
    openssl("pkcs12", "-export", "-inkey", source, "-in", chain, "-out", out, *PASS)


FLAVOURS: dict[str, tuple[str, str, bool, Callable[[Path, Path], None]]] = {
    "PKCS8": ("es256", "-BEGIN PRIVATE", False, by_openssl("pkey")),
    "PKCS8 AES": ("es256", "-BEGIN ENCRYPTED", True, by_openssl("pkcs8", "-topk8", *PASS)),
    "PKCS8 scrypt": ("es256", "-BEGIN ENCRYPTED", True, by_openssl("pkcs8", "-topk8", "-scrypt", *PASS)),
    "PKCS8 3DES": ("es256", "-BEGIN ENCRYPTED", True, by_openssl("pkcs8", "-topk8", "-v2", "des3", *PASS)),
    "SEC1": ("es256", "-BEGIN EC PRIVATE", False, by_openssl("ec")),
    "SEC1 P-521": ("es512", "-BEGIN EC PRIVATE", False, by_openssl("ec")),
    "SEC1 AES": ("es256", "Proc-Type: 4,ENCRYPTED", True, by_openssl("ec", "-aes256", *PASS)),
    "SEC1 3DES": ("es384", "DES-EDE3-CBC", True, by_openssl("ec", "-des3", *PASS)),
    "SEC1 DER": ("es256", "", False, by_openssl("ec", "-outform", "DER")),
    "EC PARAMETERS": ("es256", "-BEGIN EC PARAMETERS", False, with_parameters),
    "PKCS1": ("ps256", "-BEGIN RSA PRIVATE", False, by_openssl("rsa", "-traditional")),
    "PKCS1 AES": ("ps256", "Proc-Type: 4,ENCRYPTED", True, by_openssl("rsa", "-aes128", "-traditional", *PASS)),  # noqa: E501
    "Ed25519": ("ed25519", "-BEGIN PRIVATE", False, by_openssl("pkey")),
    "Ed25519 AES": ("ed25519", "-BEGIN ENCRYPTED", True, by_openssl("pkcs8", "-topk8", *PASS)),
    "PKCS8 DER": ("es256", "", False, by_openssl("pkcs8", "-topk8", "-nocrypt", "-outform", "DER")),
    "PKCS8 DER AES": ("es256", "", True, by_openssl("pkcs8", "-topk8", "-outform", "DER", *PASS)),
    "PKCS12": ("es256", "", True, pkcs12),
    "CRLF": ("es256", "\r\n", False, rewritten(lambda text: text.replace("\n", "\r\n"))),
    "text around": ("es256", "Bag", False, rewritten(lambda text: f"Bag Attributes\n  x: y\n{text}end")),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAVOURS)
def test_every_flavour_opens_and_signs(name: str, tmp_path: Path) -> None:
    algorithm, looks, encrypted, make = FLAVOURS[name]
    made = rsa_chain() if algorithm == "ps256" else small_chain(algorithm)
    chain, key = files(tmp_path, made)
    make(tmp_path / "in.key", key)
    assert looks.encode() in key.read_bytes()
    secret = b"secret" if encrypted else None
    assert needs_passphrase(key) is passphrase_wanted(str(key)) is encrypted
    credentials = load_credentials(chain, key, secret)
    assert credentials == made.credentials
    assert read(signed(credentials), made.trust_anchor_pem) == "Trusted"
    assert load_credentials(chain, key, b"secret") == credentials  # also where it is not needed
    if encrypted:
        for wrong, expected in ((None, "is encrypted: give its pass"), (b"x", "does not open")):
            with pytest.raises(InputError, match=expected):
                load_credentials(chain, key, wrong)


@pytest.mark.parametrize("order", ["key first", "chain first"])
def test_chain_and_key_in_one_file(tmp_path: Path, order: str) -> None:
    made = small_chain("es256")
    parts = [made.credentials.key_pem, made.credentials.chain_pem]
    both = tmp_path / "both.pem"
    both.write_text("".join(parts if order == "key first" else parts[::-1]))
    assert load_credentials(both, both, None) == made.credentials


@pytest.mark.parametrize("options", [[], ["-descert"], ["-legacy"]], ids=["AES", "3DES", "RC2"])
def test_pkcs12_holds_both(tmp_path: Path, options: list[str]) -> None:
    made = small_chain("es256")
    files(tmp_path, made)
    store = tmp_path / "store.p12"
    openssl(
        "pkcs12", "-export", "-inkey", tmp_path / "in.key", "-in", tmp_path / "chain.pem",
        "-out", store, *options, *PASS,
    )  # fmt: skip
    assert load_credentials(store, store, b"secret") == made.credentials
    for wrong, expected in ((None, "is encrypted"), (b"x", "does not open")):
        with pytest.raises(InputError, match=expected):
            load_credentials(store, store, wrong)


def test_certificates_in_der_pkcs7_and_with_text(tmp_path: Path) -> None:
    made = small_chain("es256")
    chain, key = files(tmp_path, made)
    key.write_text(made.credentials.key_pem)
    openssl("crl2pkcs7", "-nocrl", "-certfile", chain, "-out", tmp_path / "chain.p7b")
    openssl(
        "crl2pkcs7", "-nocrl", "-certfile", chain, "-outform", "DER", "-out", tmp_path / "der.p7b"
    )
    openssl("x509", "-in", chain, "-outform", "DER", "-out", tmp_path / "leaf.der")
    openssl("x509", "-in", chain, "-text", "-out", tmp_path / "text.pem")
    for name, count in (("chain.p7b", 2), ("der.p7b", 2), ("leaf.der", 1), ("text.pem", 1)):
        assert len(parse_certificates((tmp_path / name).read_bytes())) == count
    lonely = load_credentials(tmp_path / "leaf.der", key, None)
    assert "signing certificate only" in lonely.warnings[0]
    (tmp_path / "root.der").write_bytes(b"")
    (tmp_path / "root.pem").write_text(made.trust_anchor_pem)
    openssl("x509", "-in", tmp_path / "root.pem", "-outform", "DER", "-out", tmp_path / "root.der")
    assert load_anchors([tmp_path / "root.der"]) == made.trust_anchor_pem


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not a PEM private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is not a PEM private"),
        (b"\x30\x03\x02\x01\x03", "is encrypted"),
        (b"\x30\x82", "is not a PEM private key"),
        (b"x" * (1 << 20 | 1), "too many for a private key"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is not a PEM private"),
    ],
    ids=["empty", "broken", "half PKCS12", "half DER", "huge", "certificate"],
)
def test_what_is_no_key_is_one_sentence(tmp_path: Path, content: bytes, expected: str) -> None:
    chain, key = files(tmp_path, small_chain("es256"))
    key.write_bytes(content)
    with pytest.raises(InputError, match=expected):
        load_credentials(chain, key, None)


@given(data=st.binary(max_size=80), at=st.integers(0, 10_000), cut=st.booleans())
def test_damaged_files_never_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, cut: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    chain, key = files(folder, small_chain("es256"))
    for path, text in (
        (key, small_chain("es256").credentials.key_pem),
        (chain, small_chain("es256").credentials.chain_pem),
    ):
        raw = text.encode()
        at %= len(raw)
        path.write_bytes(raw[:at] + data + (b"" if cut else raw[at + len(data) :]))
        with suppress(InputError):
            load_credentials(chain, key, b"secret")
        needs_passphrase(path)
