"""Inspection shows all of a file, and nothing in it can act on who looks."""

import io
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from authorities import EMAIL, STAMPING, authority, pem
from media import media
from PIL import Image
from raw_signing import MADE, created, manifest, signed

from assaymark.provenance import tsa
from assaymark.provenance.inspect import as_json, as_text, inspection, shown
from assaymark.provenance.inspect_page import as_html
from assaymark.provenance.thumbnails import SIDE, small
from assaymark.provenance.trust import NOBODY, Trust
from assaymark.provenance.verify import State

ROOT = authority("a root", ca=True)
LEAF = authority("a signer", ROOT, purposes=EMAIL, critical=False)
STAMP_ROOT = authority("a root of stamps", ca=True)
STAMPER = authority("a stamper", STAMP_ROOT, purposes=STAMPING)
TRUST = Trust(signers=pem(ROOT), time_stamps=pem(STAMP_ROOT))
JPEG = media("JPEG")
OPENED = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["p"]}}
PARENT = {"title": "before", "relationship": "parentOf", "label": "p", "instance_id": "p"}


def put(folder: Path, data: bytes) -> Path:
    path = folder / "a.jpg"
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture with a parent, a time stamp and text in its padding."""
    parent = signed(JPEG, LEAF)
    with tsa.serving(STAMPER) as url:
        data = signed(
            JPEG,
            LEAF,
            ROOT,
            definition=manifest(OPENED),
            ingredients=[(PARENT, parent)],
            stamps=url,
        )
    at = data.rindex(b"\0" * 500)
    return put(tmp_path_factory.mktemp("work"), data[:at] + b"psst" + data[at + 4 :])


def test_everything_is_there_as_data(work: Path) -> None:
    found = inspection(work, TRUST, second=True)
    assert found.state is State.TRUSTED
    assert [item.title for item in found.manifests] == ["a work", "a work"]
    active, parent = found.manifests
    assert (active.active, parent.active, parent.reached) == (True, False, True)
    assert [item.action for item in parent.actions] == ["c2pa.created"]
    assert parent.actions[0].source_type == MADE.rsplit("/", 1)[1]
    assert (active.ingredients[0].title, active.ingredients[0].manifest) == ("before", parent.label)
    assert found.certificates[0].serial == f"{LEAF.certificate.serial_number:X}"
    assert found.free is not None
    assert [item.what for item in found.free.unexplained] == ["COSE pad"]
    assert found.lost == ()
    assert found.found.signed_at is not None
    assert {"success", "informational"} <= {item.kind for item in found.statuses}
    text = as_text(found)
    for word in ("trusted", "Example Authority", "trusted time stamp", "before", "free bytes"):
        assert word in text
    document = json.loads(as_json(found))
    assert document["state"] == "trusted"
    assert document["manifests"][0]["ingredients"][0]["title"] == "before"
    assert any(not item["explained"] for item in document["free_bytes"])
    page = as_html(found)
    assert page == as_html(inspection(work, TRUST, second=True))
    for word in ("is trusted", "Bytes that no signature covers", "unexplained", "a signer"):
        assert word in page


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (JPEG, State.NO_MANIFEST),
        (b"", State.UNSUPPORTED),
        (signed(JPEG, LEAF)[:-30], State.INVALID),
        (signed(JPEG, LEAF)[:900], State.INVALID),
        (signed(JPEG, LEAF, remote="http://192.0.2.1/<b>", embed=False), State.UNREADABLE),
    ],
    ids=["unsigned", "empty", "changed", "cut", "remote"],
)
def test_every_file_can_be_inspected(tmp_path: Path, data: bytes, state: State) -> None:
    found = inspection(put(tmp_path, data), TRUST, second=True)
    assert found.state is state
    assert state.value in as_text(found)
    assert json.loads(as_json(found))["state"] == state.value
    assert state.value in as_html(found)
    gone = inspection(tmp_path / "gone.jpg", TRUST)
    assert gone.state is State.UNREADABLE
    assert as_html(gone)


class Page(HTMLParser):
    """The elements of a page and what they carry."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}


def inert(found: Any, plain: Page) -> None:
    """Whether the three forms of an inspection have no part that the file put there."""
    text = as_text(found)
    assert all(char.isprintable() or char == "\n" for char in text)
    document = as_json(found)
    assert document.isascii()
    assert json.loads(document)
    html = as_html(found)
    page = Page(html)
    assert page.elements <= plain.elements | {"img", "figure", "details", "summary", "pre", "br"}
    handlers = {name for name, _ in page.attributes if name.startswith("on")}
    assert not handlers
    for name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith("data:image/jpeg;base64,")
    body = html.partition("<body")[2]
    assert all(char.isprintable() or char == "\n" for char in body)


def lines(shared: Path) -> list[str]:
    files = sorted((shared / "data" / "c2pa" / "attacks").glob("*.attack"))
    return [line for path in files for line in path.read_text("utf-8", "replace").splitlines()]


def _text(value: object) -> str:
    return json.dumps(value).strip('"')


FIELDS = ("title", "generator", "author", "action", "ingredient")


def attacked(field: str, line: str) -> bytes:
    definition = manifest(created())
    ingredients: list[tuple[dict[str, Any], bytes]] = []
    if field == "title":
        definition["title"] = line
    elif field == "generator":
        definition["claim_generator_info"][0]["name"] = line
    elif field == "author":
        person = {"@type": "Person", "name": line}
        work = {"@context": "https://schema.org", "@type": "CreativeWork", "author": [person]}
        definition["assertions"].append(
            {"label": "stds.schema-org.CreativeWork", "data": work, "kind": "Json"}
        )
    elif field == "action":
        definition = manifest(created(softwareAgent={"name": line}, description=line))
    else:
        ingredients = [({"title": line, "relationship": "componentOf"}, JPEG)]
    return signed(JPEG, LEAF, definition=definition, ingredients=ingredients)


@pytest.mark.parametrize("field", FIELDS)
def test_attacks_are_inert_in_every_form(shared: Path, tmp_path: Path, field: str) -> None:
    """C2PA's attack strings in each field: signed here, and shown as nothing but text."""
    plain = Page(as_html(inspection(put(tmp_path, signed(JPEG, LEAF)), TRUST)))
    strings = lines(shared)
    assert len(strings) >= 31
    for line in strings:
        found = inspection(put(tmp_path, attacked(field, line)), TRUST)
        assert found.state is State.TRUSTED
        if line.strip() and field != "action":
            assert _text(line) in _text(found.found.document), line
        inert(found, plain)


HOSTILE = ["\u202egpj.exe", "\x1b[2J\x1b]0;x\x07", "a\u2028b\u0000c", "{{ 7*7 }}{% raw %}", "</style>",
           "<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "\u200b\ufeff\u2066"]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_marks_of_direction_and_controls_are_inert(tmp_path: Path, field: str) -> None:
    plain = Page(as_html(inspection(put(tmp_path, signed(JPEG, LEAF)), TRUST)))
    for line in HOSTILE:
        found = inspection(put(tmp_path, attacked(field, line)), TRUST)
        assert found.found.readable
        inert(found, plain)
        assert "49" not in (found.found.title + found.found.generator)


def test_a_file_name_is_hostile_too(tmp_path: Path) -> None:
    path = tmp_path / "<img src=x onerror=alert(1)>\x1b[2J\u202e.jpg"
    path.write_bytes(signed(JPEG, LEAF))
    plain = Page(as_html(inspection(put(tmp_path, signed(JPEG, LEAF)), TRUST)))
    inert(inspection(path, TRUST), plain)
    assert shown("\udcff") == "\\udcff"


def test_thumbnails_are_encoded_anew_and_limited(tmp_path: Path) -> None:
    stream = io.BytesIO()
    image = Image.new("RGB", (600, 300), "red")
    image.save(stream, "PNG", pnginfo=None)
    data = stream.getvalue()
    picture = small(data + b"<script>alert(1)</script>")
    assert picture is not None
    assert (picture.media_type, picture.width, picture.height) == ("image/jpeg", SIDE, SIDE // 2)
    assert small(b"<svg onload=alert(1)>") is None
    assert small(data[:60]) is None
    stream = io.BytesIO()
    Image.new("1", (6000, 6000)).save(stream, "PNG")
    assert small(stream.getvalue()) is None  # 5 KB that would fill 108 MB


def test_an_official_file_shows_its_thumbnails(shared: Path) -> None:
    (path,) = (shared / "data" / "c2pa" / "public-testfiles").rglob("adobe-20220124-CAICAI.jpg")
    found = inspection(path, NOBODY)
    assert all(item.thumbnail for item in found.manifests)
    assert found.manifests[0].ingredients[0].thumbnail
    page = as_html(found)
    assert page.count('<img src="data:image/jpeg;base64,') >= 3
    assert "default-src &#39;none&#39;" in page


@pytest.mark.browser
@pytest.mark.slow
def test_no_text_leaves_the_page_on_a_phone(work: Path, tmp_path: Path) -> None:
    """Rendered in Chromium at 380 pixels: nothing is wider than the window, and no script ran."""
    browser = which("chromium") or which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    page = tmp_path / "page.html"
    page.write_text(as_html(inspection(work, TRUST)), "utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<iframe id=f src=page.html style='width:380px;height:900px;border:0'></iframe><script>"
        "f.onload=()=>{const d=f.contentDocument;document.title=d.documentElement.scrollWidth}</script>"
    )
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom",
         frame.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    width = re.search(r"<title>(\d+)</title>", done.stdout)
    assert width is not None, done.stdout[:500]
    assert int(width.group(1)) <= 380
