"""Text, HTML and code: no word is changed, nothing hides in the carrier, and two engines agree."""

import ast
import re
import tomllib
import unicodedata
import xml.parsers.expat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import c2pa
import c2pa_text
import encypher_c2pa
import media
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assaymark.provenance import native
from assaymark.provenance.bound import digest_of
from assaymark.provenance.c2pa_context import context
from assaymark.provenance.carriers import CarrierError, find, place
from assaymark.provenance.formats import FORMATS, HEAD, Route, recognise
from assaymark.provenance.job import Job
from assaymark.provenance.keys import Chain
from assaymark.provenance.sign import sign
from assaymark.provenance.texts import MAX_TEXT, read_text, sign_text
from assaymark.provenance.trust import Trust
from assaymark.provenance.verify import State, Verification, examine
from assaymark.reports.errors import InputError

KINDS = {
    kind.name: kind for kind in FORMATS if kind.route in (Route.TEXT, Route.HTML, Route.STRUCTURED)
}
PAGE = "<html><head><title>t</title></head><body>Some words.</body></html>"


def signed(folder: Path, chain: Chain, name: str, text: str) -> Path:
    source = folder / name
    source.write_bytes(text.encode())
    (folder / "out").mkdir(exist_ok=True)
    sign(source, folder / "out" / name, chain.credentials, overwrite=True)
    return folder / "out" / name


def ours(path: Path, chain: Chain) -> Verification:
    return examine(path, Trust(signers=chain.trust_anchor_pem))


def theirs(path: Path, chain: Chain) -> tuple[bool, list[str]]:
    """Whether the second engine finds the file intact and trusted, and its failures."""
    kind = recognise(path, path.read_bytes()[:HEAD])
    told = "text/x-python" if kind is None or kind.route is Route.STRUCTURED else kind.media_type
    found = encypher_c2pa.verify(
        path.read_bytes(), told, trust_pem=chain.trust_anchor_pem, no_default_trust=True,
        telemetry=False, online=False,
    )  # fmt: skip
    good = (found["integrity"], found["hard_binding"]) == ("valid", "match")
    codes = [str(item["code"]) for item in found["validation_results"]["failure"]]
    return good and found["trust"]["status"] == "valid_for_supplied_material", codes


SHAPES: dict[str, tuple[str, str]] = {
    "empty": ("a.txt", ""),
    "one line": ("a.txt", "word"),
    "windows": ("a.txt", "one\r\ntwo\r\n"),
    "byte order mark": ("a.txt", "\ufeffword\n"),
    "emoji with selectors": ("a.txt", "\u2764\ufe0f heart\n"),
    "empty code": ("a.py", ""),
    "windows code": ("a.py", "x = 1\r\ny = 2\r\n"),
    "no last line break": ("a.py", "x = 1"),
    "shebang": ("a.py", "#!/usr/bin/env python3\nx = 1\n"),
    "shebang, no last line break": ("a.sh", "#!/bin/sh\necho a"),
    "encoding on line 2": ("a.py", "# a\n# -*- coding: utf-8 -*-\nx = 1\n"),
    "mark before code": ("a.js", "\ufeffconst a = 1;\n"),
    "front matter": ("a.md", "---\ntitle: t\n---\n# Head\n"),
    "charset": ("a.css", '@charset "utf-8";\np{}\n'),
    "directive": ("a.yaml", "%YAML 1.2\n---\na: 1\n"),
    "page": ("a.html", PAGE),
    "windows page": ("a.html", PAGE.replace("><", ">\r\n<")),
    "capital tags": ("a.html", PAGE.replace("head>", "HEAD>")),
    "head in a comment": ("a.html", PAGE.replace("<title>", "<!-- </head> --><title>")),
    "head in a script": (
        "a.html", PAGE.replace("<title>", "<script>var a = '</head>';</script><title>")
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_text_keeps_its_words(tmp_path: Path, chain: Chain, shape: str) -> None:
    name, text = SHAPES[shape]
    path = signed(tmp_path, chain, name, text)
    found = ours(path, chain)
    assert found.state is State.TRUSTED, found.explanation
    assert theirs(path, chain) == (True, [])
    data = path.read_bytes().decode()
    kind = recognise(path, path.read_bytes()[:HEAD])
    assert kind is not None
    held = find(kind, data)
    assert held is not None
    assert held.bare.rstrip("\r\n") == text.rstrip("\r\n")
    assert data.count("\r\n") - data.count("\n") == text.count("\r\n") - text.count("\n") or (
        "\r" not in text
    )
    if text.startswith(("#!", "---", "@charset", "%", "\ufeff")):
        assert data.startswith(text)
    if name == "a.html":
        assert "script" in data[: data.lower().rindex("</head>")]


def test_signed_files_mean_what_they_meant(tmp_path: Path, chain: Chain) -> None:
    code = '#!/usr/bin/env python3\n# coding: utf-8\n"""Doc."""\nx = 1\n'
    path = signed(tmp_path, chain, "a.py", code)
    assert ast.dump(ast.parse(path.read_text())) == ast.dump(ast.parse(code))
    table = "a = 1\n[b]\nc = [2, 3]\n"
    path = signed(tmp_path, chain, "a.toml", table)
    assert tomllib.loads(path.read_text()) == tomllib.loads(table)
    import configparser

    import yaml  # type: ignore[import-untyped]

    lines = "a: 1\nb: |\n  text\n  more\n"
    path = signed(tmp_path, chain, "a.yaml", lines)
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(lines)
    parser = configparser.ConfigParser()
    parser.read(signed(tmp_path, chain, "a.ini", "[a]\nb = 1\n"))
    assert parser["a"]["b"] == "1"


def test_a_comment_of_xml_cannot_hold_a_manifest() -> None:
    """Why XML gets a manifest beside it, and is never made ill-formed."""
    block = c2pa_text.build_manifest_block("data:application/c2pa;base64,AAAA", "<!--", "-->")
    with pytest.raises(xml.parsers.expat.ExpatError, match="not well-formed"):
        xml.parsers.expat.ParserCreate().Parse(f"{block}\n<a/>", True)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "cafe\u0301", "not in Unicode Normalization Form C"),
        ("a.html", "<p>no head</p>", "has no </head>"),
        ("a.html", "<!-- <head></head> --><p>x</p>", "has no </head>"),
        ("a.html", "<!--" * 5000, "has no </head>"),
        ("a.md", "It begins with -----BEGIN C2PA MANIFEST-----.\n", "speaks of manifests itself"),
    ],
)
def test_a_text_that_cannot_be_signed_is_left_alone(
    tmp_path: Path, chain: Chain, name: str, text: str, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        signed(tmp_path, chain, name, text)
    assert (tmp_path / name).read_bytes() == text.encode()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_a_text_in_another_encoding_gets_a_manifest_beside_it(
    tmp_path: Path, chain: Chain, encoding: str
) -> None:
    source = tmp_path / "a.txt"
    source.write_bytes("caf\u00e9 at dawn\n".encode(encoding))
    made = sign(source, tmp_path / "b.txt", chain.credentials)
    assert made.manifest.name == "b.txt.c2pa"
    assert (tmp_path / "b.txt").read_bytes() == source.read_bytes()
    assert ours(tmp_path / "b.txt", chain).state is State.TRUSTED


def test_a_byte_far_into_a_text_that_is_no_utf8(tmp_path: Path, chain: Chain) -> None:
    source = tmp_path / "a.txt"
    source.write_bytes(b"x" * 10_000 + b"\xe9\n")
    with pytest.raises(InputError, match=r"is not UTF-8 \(byte 10000\)"):
        sign(source, tmp_path / "b.txt", chain.credentials)


def job(source: Path, target: Path, chain: Chain) -> Job:
    kind = recognise(source, source.read_bytes()[:HEAD])
    assert kind is not None
    made = chain.credentials
    info = c2pa.C2paSignerInfo(
        made.algorithm.encode(), made.chain_pem.encode(), made.key_pem.encode(), None
    )

    def builder(*, hard_binding: object = None) -> c2pa.Builder:
        new = c2pa.Builder({"claim_generator_info": [{"name": "t"}]}, context=context())
        new.set_intent(c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE)
        return new

    return Job(
        source=source, target=target, format=kind, builder=builder,
        signer=c2pa.Signer.from_info(info),
    )  # fmt: skip


def test_a_text_is_normalised_only_where_that_is_allowed(tmp_path: Path, chain: Chain) -> None:
    source, target = tmp_path / "a.txt", tmp_path / "b.txt"
    source.write_text("cafe\u0301\n")
    sign_text(job(source, target, chain), normalize=True)
    assert target.read_text().startswith("caf\u00e9\n")
    assert ours(target, chain).state is State.TRUSTED
    assert theirs(target, chain)[0]


@pytest.mark.parametrize("name", ["text", "Python", "HTML", "JSON", "DOCX"])
def test_signing_again_replaces_the_manifest_and_keeps_the_history(
    tmp_path: Path, chain: Chain, name: str
) -> None:
    first = media.write(tmp_path, name, "first")
    again, third = first.with_stem("again"), first.with_stem("third")
    sign(first, again, chain.credentials)
    sign(again, third, chain.credentials)
    found = ours(third, chain)
    assert found.state is State.TRUSTED
    assert found.tree is not None
    (parent,) = [node for node in found.tree.children if node.label.startswith("ingredient")]
    assert parent.label == f"ingredient: {again.name}"
    assert "signed by Example Press" in parent.children[0].detail
    kind = recognise(again, again.read_bytes()[:HEAD])
    assert kind is not None
    if name in ("text", "Python", "HTML"):
        assert theirs(third, chain) == (True, [])
        bare = [held.bare for path in (again, third) if (held := find(kind, path.read_text()))]
        assert len(set(bare)) == 1


def parts(path: Path) -> tuple[str, str, str]:
    kind = recognise(path, path.read_bytes()[:HEAD])
    assert kind is not None
    held = find(kind, path.read_bytes().decode())
    assert held is not None
    return held.before, held.carrier, held.after


def loose(carrier: str) -> str:
    """The same store in base64 that is not canonical: other bits behind its end (RFC 4648, 3.5)."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    found = re.search("(.)(=+ )", carrier)
    if found is None:  # a store whose length is a multiple of three has none
        return carrier.replace("AAAA ", "AAA= ", 1).replace("AAAAAA", "AAAAA=", 1)
    last = letters[letters.index(found[1]) ^ 1]
    return carrier[: found.start()] + last + carrier[found.start() + 1 :]


HIDING: dict[str, tuple[str, Callable[[str, str, str], str]]] = {
    "wrapper in the middle": ("a.txt", lambda b, c, a: b[:9] + c + b[9:] + a),
    "two wrappers": ("a.txt", lambda b, c, a: b + c + " " + c + a),
    "words after the wrapper": ("a.txt", lambda b, c, a: b + c + a + "more"),
    "selectors after the wrapper": ("a.txt", lambda b, c, a: b + c + "\ufe01\ufe02" + a),
    "padding holds a message": ("a.txt", lambda b, c, a: b + c[:-3] + "\U000e0100" * 3 + a),
    "decomposed": ("a.txt", lambda b, c, a: unicodedata.normalize("NFD", b) + c + a),
    "line breaks": ("a.txt", lambda b, c, a: b.replace("\n", "\r\n") + c + a),
    "code before the comment": (
        "a.py", lambda b, c, a: b + "import os # " + c[2:].replace("AAAAAAAAAA", "", 1) + a
    ),
    "code in the place of the comment": (
        "a.py", lambda b, c, a: b + c.replace("# -----BEGIN", "x;-----BEGIN", 1) + a
    ),
    "no comment": ("a.py", lambda b, c, a: b + c.replace("# ", "", 1) + a),
    "block twice": ("a.py", lambda b, c, a: b + c + "\n" + c + a),
    "block cut": ("a.py", lambda b, c, a: b + c.replace("-----END", "-----FIN") + a),
    "bits behind the base64": ("a.py", lambda b, c, a: b + loose(c) + a),
    "element runs code": (
        "a.html", lambda b, c, a: b + c.replace("application/c2pa", "application/js!!") + a
    ),
    "element twice": ("a.html", lambda b, c, a: b + c + c + a),
    "element has a source": (
        "a.html", lambda b, c, a: b + c.replace("<script", "<script src=x") + a
    ),
}  # fmt: skip
# What the second engine lets pass, and we do not: bytes in the part that the hash leaves out.
LET_PASS = {"comment not closed", "code in the place of the comment"}


@pytest.mark.parametrize("trick", HIDING)
def test_nothing_hides_in_a_carrier(tmp_path: Path, chain: Chain, trick: str) -> None:
    name, change = HIDING[trick]
    text = PAGE if name == "a.html" else "x = 'caf\u00e9'\ny = 2\n"
    path = signed(tmp_path, chain, name, text)
    assert ours(path, chain).state is State.TRUSTED
    before = path.read_bytes()
    path.write_bytes(change(*parts(path)).encode())
    assert path.read_bytes() != before
    found = ours(path, chain)
    assert found.state in (State.INVALID, State.NO_MANIFEST, State.UNREADABLE)
    assert theirs(path, chain)[0] is (trick in LET_PASS)


def test_an_exclusion_wider_than_the_carrier_never_holds(tmp_path: Path, chain: Chain) -> None:
    """A signer of ours who leaves a word out of the hash: what he signs is not what is read."""
    source, target = tmp_path / "a.txt", tmp_path / "b.txt"
    source.write_text("I owe you 1 pound.\n")
    work = job(source, target, chain)
    text = source.read_text()
    spot = place(work.format, text)
    for start, extra in ((10, len(text) - 10), (len(text), 0)):
        with work.builder() as builder:
            draft = native.data_hash_placeholder(builder, work.signer)
            size = len(spot.wrap(draft).encode()) + extra
            digest = digest_of("sha256", text.encode()[:start])
            store = native.sign_data_hash(builder, work.signer, digest, (start, size))
        target.write_text(text + spot.wrap(store))
        expected = State.INVALID if extra else State.TRUSTED
        assert ours(target, chain).state is expected
        assert theirs(target, chain)[0] is not bool(extra)


def test_a_manifest_without_a_data_hash_never_holds(tmp_path: Path, chain: Chain) -> None:
    """A picture's manifest, bound by boxes or ranges of the picture, carried by a text."""
    picture = media.write(tmp_path, "MP4")
    sign(picture, tmp_path / "s.mp4", chain.credentials)
    from tampering import find_store

    store = find_store((tmp_path / "s.mp4").read_bytes()).store
    path = tmp_path / "a.txt"
    path.write_text("words\n" + c2pa_text.encode_wrapper(store))
    found = ours(path, chain)
    assert found.state is State.INVALID
    assert "assertion.dataHash.mismatch" in found.failures


def test_the_one_byte_the_library_is_shown_is_no_way_in(tmp_path: Path, chain: Chain) -> None:
    """The manifest of a file of that very byte, in a text and beside another file."""
    tiny = tmp_path / "tiny.bin"
    tiny.write_bytes(b"\0")
    sign(tiny, tmp_path / "s.bin", chain.credentials)
    assert ours(tmp_path / "s.bin", chain).state is State.TRUSTED
    store = (tmp_path / "s.bin.c2pa").read_bytes()
    text, data = tmp_path / "a.txt", tmp_path / "other.bin"
    text.write_text("words\n" + c2pa_text.encode_wrapper(store))
    data.write_bytes(b"other")
    (tmp_path / "other.bin.c2pa").write_bytes(store)
    assert ours(text, chain).state is State.INVALID
    assert ours(data, chain).state is State.INVALID


def test_a_manifest_elsewhere_is_named_and_not_fetched(tmp_path: Path) -> None:
    page, code = tmp_path / "a.html", tmp_path / "a.py"
    page.write_text(
        PAGE.replace("<title>", '<link rel="c2pa-manifest" href="http://127.0.0.1:9/m"><title>')
    )
    code.write_text(c2pa_text.embed_structured("x = 1\n", "http://127.0.0.1:9/m", "#").text)
    for path in (page, code):
        found = examine(path)
        assert found.state is State.UNREADABLE
        assert "http://127.0.0.1:9/m" in found.explanation


STORES = st.binary(min_size=20, max_size=200).map(
    lambda data: (len(data) + 8).to_bytes(4, "big") + b"jumb" + data
)


@settings(max_examples=120)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff")),
    store=STORES,
)
def test_what_is_placed_is_found_again(kind: str, text: str, store: bytes) -> None:
    if KINDS[kind].route is Route.HTML:
        text = f"<html><head></head><body>{text}</body></html>"
    text = unicodedata.normalize("NFC", text)
    spot = place(KINDS[kind], text)
    carrier = spot.wrap(store)
    held = find(KINDS[kind], spot.before + carrier + spot.after)
    assert held is not None
    assert (held.store, held.carrier, held.before, held.after) == (
        store, carrier, spot.before, spot.after,
    )  # fmt: skip
    assert held.bare.removesuffix("\n").removesuffix("\r") == text.removesuffix("\n").removesuffix(
        "\r"
    )


@settings(max_examples=150)
@given(kind=st.sampled_from(sorted(KINDS)), parts=st.lists(st.sampled_from(
    ["-----BEGIN C2PA MANIFEST-----", "-----END C2PA MANIFEST-----", "data:application/c2pa;base64,",
     "AAAA", "=", "\n", " ", "#", "<script type=\"application/c2pa\">", "</script>", "</head>",
     "<link rel=\"c2pa-manifest\">", "\ufeff", c2pa_text.encode_wrapper(b"x")[1:], "\udcff", "<!--"]
)))  # fmt: skip
def test_no_text_makes_a_reader_fall_over(kind: str, parts: list[str]) -> None:
    text = "".join(parts)
    with suppress(CarrierError):
        held = find(KINDS[kind], text)
        assert held is None or held.before + held.carrier + held.after == text


def test_a_text_of_ten_megabytes(tmp_path: Path, chain: Chain) -> None:
    path = signed(tmp_path, chain, "a.txt", "A line of a long text.\n" * 450_000)
    assert ours(path, chain).state is State.TRUSTED


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<script type="application/c2pa">' * 60_000),
        ("a.html", "<script" * 300_000),
        ("a.html", "<link" * 300_000),
        ("a.py", "-----BEGIN C2PA MANIFEST-----" * 60_000),
        ("a.py", "-----BEGIN C2PA MANIFEST-----data:application/c2pa;base64," + "A" * 2_000_000),
        ("a.txt", "\ufeff" + "\ufe00" * 600_000),
        ("a.txt", ("\ufeff" + "\ufe00" * 8) * 60_000),
        ("a.txt", c2pa_text.encode_wrapper(b"") + "\ufe00" * 600_000),
    ],
    ids=[
        "scripts",
        "open scripts",
        "open links",
        "begins",
        "no end",
        "selectors",
        "marks",
        "padding",
    ],
)
def test_a_text_made_to_be_slow_is_not(tmp_path: Path, name: str, text: str) -> None:
    import time

    path = tmp_path / name
    path.write_text(text)
    start = time.process_time()
    found = examine(path)
    assert time.process_time() - start < 2
    assert found.state is not State.TRUSTED


def test_a_text_too_large_to_search_is_not_called_unsigned(tmp_path: Path, chain: Chain) -> None:
    import os

    path = tmp_path / "a.txt"
    path.write_text("words")
    os.truncate(path, MAX_TEXT + 1)
    kind = KINDS["text"]
    with pytest.raises(c2pa.C2paError.NotSupported, match="is not searched"):
        read_text(path, kind, context())
    (tmp_path / "b.txt").write_text("b")
    work = replace(job(tmp_path / "b.txt", tmp_path / "c.txt", chain), source=path)
    with pytest.raises(InputError, match="sign it with a manifest beside it"):
        sign_text(work)


def test_an_unknown_library_is_told(
    tmp_path: Path, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "KNOWN", "1.0.")
    source = tmp_path / "a.txt"
    source.write_text("words")
    with pytest.raises(InputError, match=r"expected 1\.0\.x"):
        sign_text(job(source, tmp_path / "b.txt", chain))
