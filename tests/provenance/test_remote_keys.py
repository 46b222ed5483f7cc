"""Keys that stay elsewhere: in a token (SoftHSM is the truth) or behind a function."""

import io
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import c2pa
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from engines_for_tests import MANIFEST, context, jpeg, read, second, sign_with, signed
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.provenance import certificates
from assaymark.provenance.keys import (
    ALGORITHMS,
    Chain,
    Credentials,
    load_credentials,
    new_chain,
    passphrase_wanted,
    write_chain,
)
from assaymark.provenance.pkcs11_uri import parse_uri
from assaymark.provenance.signers import check_key, open_signer, signing_failure
from assaymark.reports.errors import InputError

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")
MODULE = next((path for path in MODULES if Path(path).exists()), None)
PIN = "1234"
STORED = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")


@pytest.fixture(scope="module")
def chains() -> dict[str, Chain]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "_RSA_BITS", 2048)  # 3,072 bits take a second to make
        return {name: new_chain("Example Press", algorithm=name) for name in ALGORITHMS}


@dataclass(frozen=True)
class Token:
    """A SoftHSM token that holds the leaf key of each chain under its algorithm's name."""

    folder: Path

    def uri(self, label: str, *, token: str = "press%20desk", query: str = "") -> str:
        return f"pkcs11:token={token};object={label}?module-path={MODULE}{query}"

    def chain(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def load(self, name: str, *, passphrase: bytes | None = PIN.encode()) -> Credentials:
        return load_credentials(self.chain(name), self.uri(name), passphrase)


@pytest.fixture(scope="module")
def token(chains: dict[str, Chain], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    pytest.importorskip("pkcs11", reason="the extra pkcs11 is not installed")
    if MODULE is None or shutil.which("softhsm2-util") is None:
        pytest.skip("no SoftHSM on this machine: apt install softhsm2")
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "conf"))
        patch.delenv("ASSAYMARK_PIN", raising=False)
        hsm("--init-token", "--free", "--label", "press desk", "--pin", PIN, "--so-pin", "5678")
        for number, name in enumerate(STORED, start=1):
            made = chains[name]
            (folder / f"{name}.pem").write_text(made.credentials.chain_pem)
            (folder / "key").write_text(made.credentials.key_pem)
            hsm(
                "--import", str(folder / "key"), "--token", "press desk", "--pin", PIN,
                "--label", name, "--id", f"{number:02x}",
            )  # fmt: skip
        (folder / "key").unlink()
        yield Token(folder)


def hsm(*arguments: str) -> None:
    done = subprocess.run(["softhsm2-util", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("algorithm", STORED)
def test_a_token_signs_what_both_engines_trust(
    token: Token, chains: dict[str, Chain], algorithm: str
) -> None:
    credentials = token.load(algorithm)
    assert (credentials.algorithm, credentials.key_pem) == (algorithm, "")
    assert PIN not in repr(credentials)
    data = signed(credentials)
    anchors = chains[algorithm].trust_anchor_pem
    assert (read(data, anchors), second(data, anchors)) == ("Trusted", "Trusted")


def test_where_the_pin_comes_from(
    token: Token, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = tmp_path / "pin"
    pin.write_text(f"{PIN}\n")
    by_file = token.uri("es256", query=f"&pin-source=file:{pin}")
    assert not passphrase_wanted(by_file)
    assert passphrase_wanted(token.uri("es256"))
    chain = token.chain("es256")
    found = [load_credentials(chain, by_file, b"wrong"), token.load("es256")]
    monkeypatch.setenv("ASSAYMARK_PIN", PIN)
    assert not passphrase_wanted(token.uri("es256"))
    found.append(token.load("es256", passphrase=None))
    assert {item.remote.pin for item in found} == {PIN}  # type: ignore[union-attr]
    pin.unlink()
    with pytest.raises(InputError, match="cannot read the PIN"):
        load_credentials(chain, by_file, None)


def test_a_key_by_its_id(token: Token) -> None:
    uri = f"pkcs11:token=press%20desk;id=%03;type=private?module-path={MODULE}"
    assert signed(load_credentials(token.chain("es512"), uri, PIN.encode()))


FRESH = """
import sys
from pathlib import Path
from assaymark.provenance.keys import load_credentials
from assaymark.reports.errors import InputError
try:
    load_credentials(Path(sys.argv[1]), sys.argv[2], sys.argv[3].encode() or None).remote.sign(b"x")
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("label", "options", "pin", "expected"),
    [
        ("es256", {}, "9999", "the PIN does not open pkcs11:token=press desk;object=es256"),
        ("es256", {}, "", "needs a PIN: give it in ASSAYMARK_PIN"),
        ("none", {}, PIN, "the token holds no private key that fits"),
        ("es256", {"token": "other"}, PIN, "no token fit"),
        ("es384", {}, PIN, "returned 96 bytes that are no es256 signature"),
        ("ps256", {}, PIN, "did not sign: "),
    ],
    ids=["wrong PIN", "no PIN", "no key", "no token", "another key", "another kind"],
)
def test_what_a_token_refuses_is_one_sentence(
    token: Token, label: str, options: dict[str, str], pin: str, expected: str
) -> None:
    """In a process of its own: a session that is open already asks for no PIN."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(token.chain("es256")), token.uri(label, **options), pin],
        capture_output=True,
        text=True,
    )
    assert expected in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1


FORKED = """
import multiprocessing, sys
from pathlib import Path
from assaymark.provenance.keys import load_credentials
def sign(credentials):
    return [len(credentials.remote.sign(b"data %d" % n)) for n in range(3)]
if __name__ == "__main__":
    credentials = load_credentials(Path(sys.argv[1]), sys.argv[2], b"1234")
    print(sign(credentials))
    for method in ("fork", "spawn", "fork"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(pool.map(sign, [credentials] * 4))
        print(sign(credentials))
"""


def test_a_session_of_its_own_in_each_process(token: Token, tmp_path: Path) -> None:
    (tmp_path / "forked.py").write_text(FORKED)
    done = subprocess.run(
        [
            sys.executable,
            str(tmp_path / "forked.py"),
            str(token.chain("es256")),
            token.uri("es256"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    one = [64, 64, 64]
    expected = [one, *([one] * 4, one) * 3]
    assert done.stdout.splitlines() == [str(line) for line in expected], done.stderr


WRONG = """
import sys
from pathlib import Path
from assaymark.provenance import pkcs11_keys
from assaymark.provenance.keys import load_credentials
from assaymark.reports.errors import InputError
logins, open_session = [], pkcs11_keys._session
pkcs11_keys._session = lambda token, pin: (logins.append(pin), open_session(token, pin))[1]
remote = load_credentials(Path(sys.argv[1]), sys.argv[2], b"9999").remote
for _ in range(20):
    try:
        remote.sign(b"data")
    except InputError as error:
        assert "the PIN does not open" in str(error)
print(len(logins))
"""


def test_a_wrong_pin_is_tried_once(token: Token) -> None:
    """Otherwise a folder of files would lock the token."""
    done = subprocess.run(
        [sys.executable, "-c", WRONG, str(token.chain("es256")), token.uri("es256")],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "1\n", done.stderr


def test_many_threads_and_two_keys_share_a_token(token: Token, chains: dict[str, Chain]) -> None:
    for name in ("es256", "ed25519"):
        with open_signer(token.load(name)) as signer, ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda n: sign_with(signer, f"{n}"), range(24)))
        assert {read(data, chains[name].trust_anchor_pem) for data in made} == {"Trusted"}


def test_credentials_travel_to_workers(token: Token) -> None:
    credentials = token.load("es256")
    copy = pickle.loads(pickle.dumps(credentials))
    assert copy == credentials
    assert len(copy.remote.sign(b"data")) == 64


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("pkcs11:token=a;object=b?pin-value=1234", "seen by everybody"),
        ("pkcs11:token=a;objekt=b", 'did you mean "object"'),
        ("pkcs11:token=a;token=b", "token is twice"),
        ("pkcs11:token", "is no attribute"),
        ("pkcs11:object=a;type=public", "asks for a public"),
        ("pkcs11:object=a;slot-id=x", "slot-id is x"),
        ("pkcs11:token=a?module-path=/x.so", "names no key"),
        ("pkcs11:token=a;object=b", "which module drives the token"),
        ("pkcs11:object=b?module-path=/x.so&pin-source=|cat", "names a command"),
    ],
)
def test_a_uri_that_cannot_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chain: Chain, uri: str, expected: str
) -> None:
    pytest.importorskip("pkcs11", reason="the extra pkcs11 is not installed")
    monkeypatch.delenv("PKCS11_MODULE_PATH", raising=False)
    (tmp_path / "chain.pem").write_text(chain.credentials.chain_pem)
    with pytest.raises(InputError) as caught:
        load_credentials(tmp_path / "chain.pem", uri, None)
    assert expected in str(caught.value)


def test_a_module_that_is_none(tmp_path: Path, chain: Chain) -> None:
    pytest.importorskip("pkcs11", reason="the extra pkcs11 is not installed")
    (tmp_path / "chain.pem").write_text(chain.credentials.chain_pem)
    uri = f"pkcs11:object=a?module-path={tmp_path}/chain.pem"
    remote = load_credentials(tmp_path / "chain.pem", uri, None).remote
    assert remote is not None
    with pytest.raises(InputError, match=r"cannot open pkcs11:object=a with .*chain\.pem: "):
        remote.sign(b"data")


def test_without_the_extra_the_next_step_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chain: Chain
) -> None:
    (tmp_path / "chain.pem").write_text(chain.credentials.chain_pem)
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(InputError, match=r"pip install 'assaymark\[pkcs11\]'"):
        load_credentials(tmp_path / "chain.pem", "pkcs11:object=a?module-path=/x.so", None)


@settings(max_examples=25)
@given(st.dictionaries(st.sampled_from(["token", "object", "model"]), st.text(min_size=1)))
def test_percent_encoding_comes_back(parts: dict[str, str]) -> None:
    from urllib.parse import quote

    uri = "pkcs11:" + ";".join(f"{name}={quote(value, safe='')}" for name, value in parts.items())
    assert parse_uri(uri) == parts


SERVICE = """
import os
from pathlib import Path
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
KEY = serialization.load_pem_private_key(Path(__file__).with_name("kms.pem").read_bytes(), None)
class Throttled(Exception): pass
def der(data, algorithm):
    if algorithm == "ed25519":
        return KEY.sign(data)
    digest = getattr(hashes, "SHA" + algorithm[2:])()
    if algorithm.startswith("es"):
        return KEY.sign(data, ec.ECDSA(digest))
    return KEY.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
def raw(data, algorithm):
    signature = der(data, algorithm)
    if not algorithm.startswith("es"):
        return signature
    size = (KEY.curve.key_size + 7) // 8
    return b"".join(part.to_bytes(size, "big") for part in decode_dss_signature(signature))
def short(data, algorithm): return raw(data, algorithm)[:-1]
def flipped(data, algorithm): return bytes([der(data, algorithm)[0] ^ 1]) + der(data, algorithm)[1:]
def nothing(data, algorithm): return None
def empty(data, algorithm): return b""
def of_other_data(data, algorithm): return raw(data + b"x", algorithm)
def hashed_twice(data, algorithm):
    digest = hashes.Hash(hashes.SHA256()); digest.update(data)
    return raw(digest.finalize(), algorithm)
def throttled(data, algorithm): raise Throttled("quota of 5 signatures a second is used up")
def leaves(data, algorithm): raise OSError(104, "Connection reset by peer")
NUMBER = 7
"""


def service(folder: Path, made: Chain, name: str, monkeypatch: pytest.MonkeyPatch) -> Credentials:
    (folder / "chain.pem").write_text(made.credentials.chain_pem)
    (folder / "kms.pem").write_text(made.credentials.key_pem)
    module = f"kms_{abs(hash(str(folder)))}"
    (folder / f"{module}.py").write_text(SERVICE)
    monkeypatch.chdir(folder)
    return load_credentials(folder / "chain.pem", f"{module}:{name}", None)


@pytest.mark.parametrize("form", ["der", "raw"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_function_signs_in_either_form(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chains: dict[str, Chain],
    algorithm: str,
    form: str,
) -> None:
    made = chains[algorithm]
    credentials = service(tmp_path, made, form, monkeypatch)
    data = signed(pickle.loads(pickle.dumps(credentials)))
    anchors = made.trust_anchor_pem
    assert (read(data, anchors), second(data, anchors)) == ("Trusted", "Trusted")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("short", "returned 63 bytes that are no es256 signature .* expected 64 bytes r‖s, or DER"),
        ("flipped", "that are no es256 signature"),
        ("of_other_data", "returned 64 bytes that are no es256 signature"),
        ("hashed_twice", "returned 64 bytes that are no es256 signature"),
        ("empty", "returned 0 bytes that are no es256 signature"),
        ("nothing", "returned NoneType instead of bytes"),
        ("throttled", "did not sign: Throttled: quota of 5 signatures a second is used up"),
        ("leaves", "did not sign: ConnectionResetError: .*Connection reset by peer"),
        ("NUMBER", "is not a function"),
        ("missing", "has no missing"),
    ],
)
def test_a_failing_function_keeps_its_own_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chains: dict[str, Chain],
    name: str,
    expected: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    credentials = service(tmp_path, chains["es256"], name, monkeypatch)
    with pytest.raises(InputError, match=expected):
        signed(credentials)
    assert not caplog.records
    with pytest.raises(InputError, match=expected):
        check_key(credentials)
    with open_signer(credentials) as signer:
        with pytest.raises(c2pa.C2paError, match="COSE"):
            sign_with(signer)
        own = signing_failure(signer)
        assert isinstance(own, InputError)
        assert signing_failure(signer) is None  # said once


def test_a_failure_belongs_to_its_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chains: dict[str, Chain]
) -> None:
    made = chains["es256"]
    credentials = service(tmp_path, made, "sometimes", monkeypatch)
    (module,) = tmp_path.glob("kms_*.py")
    module.write_text(
        SERVICE
        + "def sometimes(data, algorithm):\n"
        + "    if b'refused' in data: raise Throttled('refused')\n"
        + "    return raw(data, algorithm)\n"
    )

    def attempt(number: int) -> tuple[int, str]:
        title = "refused" if number % 3 == 0 else "fine"
        try:
            remote_sees(signer, title)
        except c2pa.C2paError:
            return number, str(signing_failure(signer))
        return number, str(signing_failure(signer))

    with open_signer(credentials) as signer, ThreadPoolExecutor(4) as pool:
        for number, said in pool.map(attempt, range(24)):
            assert ("Throttled: refused" in said) is (number % 3 == 0)


def remote_sees(signer: c2pa.Signer, title: str) -> None:
    """A claim names its title's instance in clear, so the service can tell the files apart."""
    output = io.BytesIO()
    manifest = MANIFEST | {"claim_generator_info": [{"name": title, "version": "1"}]}
    with context() as settings, c2pa.Builder(manifest, settings) as builder:
        builder.set_intent(
            c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
        )
        builder.sign(signer, "image/jpeg", io.BytesIO(jpeg()), output)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_keys_in_memory_sign_for_many_threads(
    chains: dict[str, Chain], tmp_path: Path, algorithm: str
) -> None:
    made = chains[algorithm]
    written = write_chain(made, tmp_path / "k", b"secret")
    credentials = load_credentials(written["chain.pem"], written["key.pem"], b"secret")
    with open_signer(credentials) as signer, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: sign_with(signer, f"{n}"), range(8)))
        assert signing_failure(signer) is None
    assert len(set(found)) == 8
    assert {read(data, made.trust_anchor_pem) for data in found} == {"Trusted"}
    assert second(found[0], made.trust_anchor_pem) == "Trusted"


def test_what_cannot_be_opened_is_said(chain: Chain) -> None:
    with pytest.raises(InputError, match="expected http:// or https://"):
        signed(chain.credentials, "ftp://tsa.example")
    broken = Credentials(algorithm="es256", chain_pem=chain.credentials.chain_pem, key_pem="x")
    with pytest.raises(InputError, match="these credentials cannot sign"):
        signed(broken)


def test_a_file_of_that_name_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chain: Chain
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:key").write_text(chain.credentials.key_pem)
    (tmp_path / "chain.pem").write_text(chain.credentials.chain_pem)
    assert load_credentials(tmp_path / "chain.pem", "a:key", None).remote is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_remote_signature_is_the_one_of_its_algorithm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chains: dict[str, Chain], algorithm: str
) -> None:
    """By `cryptography`, which knows nothing of COSE: the hash, the salt and the form are right."""
    remote = service(tmp_path, chains[algorithm], "der", monkeypatch).remote
    assert remote is not None
    signature, key = remote.sign(b"data"), chains[algorithm].leaf.certificate.public_key()
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.verify(signature, b"data")
    digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[2:]]
    if isinstance(key, rsa.RSAPublicKey):
        how = padding.PSS(padding.MGF1(digest), digest.digest_size)
        return key.verify(signature, b"data", how, digest)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert len(signature) == {"es256": 64, "es384": 96, "es512": 132}[algorithm]
    with pytest.raises(ValueError, match=r"."):
        decode_dss_signature(signature)
    return None
