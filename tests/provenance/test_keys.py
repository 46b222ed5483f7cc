"""Certificates and private keys: made by the profile, kept private, and refused with a reason."""

import datetime as dt
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from assaymark.provenance.keys import (
    Chain,
    load_credentials,
    new_chain,
    write_chain,
)
from assaymark.reports.errors import InputError


def test_the_chain_has_the_extensions_of_the_profile(chain: Chain) -> None:
    leaf = chain.leaf.certificate
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert "1.3.6.1.4.1.62558.2.1" in {oid.dotted_string for oid in purposes}
    intermediate = chain.intermediate.certificate.extensions
    assert intermediate.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert chain.leaf.certificate.issuer == chain.intermediate.certificate.subject
    chain.intermediate.certificate.verify_directly_issued_by(chain.root.certificate)
    leaf.verify_directly_issued_by(chain.intermediate.certificate)


def test_private_keys_are_encrypted_and_private(tmp_path: Path, chain: Chain) -> None:
    written = write_chain(chain, tmp_path / "keys", b"secret")
    for name, path in written.items():
        text = path.read_text()
        if name.endswith("key.pem"):
            assert "ENCRYPTED PRIVATE KEY" in text
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        else:
            assert "PRIVATE" not in text
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert "PRIVATE" not in repr(chain.credentials)
    read = load_credentials(written["chain.pem"], written["key.pem"], b"secret")
    assert read == chain.credentials
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]
    with pytest.raises(InputError, match="never overwritten"):
        write_chain(chain, tmp_path / "keys", b"secret")
    with pytest.raises(InputError, match="empty passphrase"):
        write_chain(chain, tmp_path / "other", b"")


@pytest.mark.parametrize(
    ("organization", "options", "expected"),
    [
        ("", {}, "organization has 0 characters"),
        ("x" * 65, {}, "organization has 65 characters"),
        ("a\nb", {}, "printable"),
        ("ok", {"algorithm": "es265"}, 'did you mean "es256"?'),
        ("ok", {"days": 0}, "valid for 1 to 3650 days, got 0"),
        ("ok", {"name": "y" * 70}, "name has 70 characters"),
    ],
)
def test_a_wrong_certificate_request(
    organization: str, options: dict[str, object], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        new_chain(organization, **options)  # type: ignore[arg-type]
    assert expected in str(caught.value)


def files_for(folder: Path, chain: Chain, stranger: Chain) -> dict[str, Path]:
    write_chain(chain, folder / "k", b"secret")
    plain = chain.leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "plain.pem").write_bytes(plain)
    old = chain.leaf.key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret")
    )
    (folder / "sec1.pem").write_bytes(old)
    (folder / "garbage.pem").write_text("no key")
    (folder / "other.pem").write_bytes(
        stranger.leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return {"chain": folder / "k" / "chain.pem", "key": folder / "k" / "key.pem"}


def test_keys_in_every_pem_flavour(tmp_path: Path, chain: Chain, stranger: Chain) -> None:
    paths = files_for(tmp_path, chain, stranger)
    for key, secret in (("k/key.pem", b"secret"), ("plain.pem", None), ("sec1.pem", b"secret")):
        assert load_credentials(paths["chain"], tmp_path / key, secret) == chain.credentials
    assert load_credentials(paths["chain"], tmp_path / "plain.pem", b"not needed")


@pytest.mark.parametrize(
    ("chain_file", "key_file", "secret", "expected"),
    [
        ("k/chain.pem", "k/key.pem", None, "is encrypted: give its passphrase"),
        ("k/chain.pem", "k/key.pem", b"wrong", "the passphrase does not open"),
        ("k/chain.pem", "garbage.pem", None, "is not a PEM private key"),
        ("k/chain.pem", "missing.pem", None, "cannot read the private key"),
        ("k/missing.pem", "k/key.pem", b"secret", "cannot read the certificate chain"),
        ("garbage.pem", "k/key.pem", b"secret", "is not a PEM certificate chain"),
        ("k/chain.pem", "other.pem", None, "is not the key of the first certificate"),
        ("k/root.pem", "k/key.pem", b"secret", "is not the key of the first certificate"),
    ],
)
def test_an_unusable_key_is_one_clear_sentence(
    tmp_path: Path,
    chain: Chain,
    stranger: Chain,
    chain_file: str,
    key_file: str,
    secret: bytes | None,
    expected: str,
) -> None:
    files_for(tmp_path, chain, stranger)
    with pytest.raises(InputError) as caught:
        load_credentials(tmp_path / chain_file, tmp_path / key_file, secret)
    assert expected in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_expired_certificate_is_refused_before_signing(tmp_path: Path, chain: Chain) -> None:
    write_chain(chain, tmp_path / "k", b"secret")
    old = dt.datetime.now(dt.UTC) - dt.timedelta(days=400)
    leaf = chain.leaf.certificate
    expired = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .public_key(chain.leaf.key.public_key())
        .serial_number(1)
        .not_valid_before(old)
        .not_valid_after(old + dt.timedelta(days=30))
        .sign(chain.intermediate.key, leaf.signature_hash_algorithm)  # type: ignore[arg-type]
    )
    (tmp_path / "old.pem").write_bytes(expired.public_bytes(Encoding.PEM))
    with pytest.raises(InputError, match=r"is valid from .* to .*, today is"):
        load_credentials(tmp_path / "old.pem", tmp_path / "k" / "key.pem", b"secret")


def test_a_chain_out_of_order_is_refused(tmp_path: Path, chain: Chain, stranger: Chain) -> None:
    paths = write_chain(chain, tmp_path / "k", b"secret")
    leaf = chain.leaf.certificate.public_bytes(Encoding.PEM)
    other = stranger.intermediate.certificate.public_bytes(Encoding.PEM)
    paths["chain.pem"].write_bytes(leaf + other)
    with pytest.raises(InputError, match="was not issued by"):
        load_credentials(paths["chain.pem"], paths["key.pem"], b"secret")
