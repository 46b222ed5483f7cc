"""Templates and indexes: strict keys, few placeholders, exceptions in order, nothing left unsaid."""

import datetime as dt
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assaymark.provenance.claims import Claims, Ingredient
from assaymark.provenance.template import (
    PLACEHOLDERS,
    claims_for,
    load_template,
    unmatched,
    with_index,
)
from assaymark.provenance.template_index import load_index
from assaymark.reports.errors import InputError

TEMPLATE = """\
title = "{stem} of {date}"
source_type = "generated"
generator = "Ex Diffusion"
author = "Jane {{Example}}"

[training]
ai_training = "notAllowed"

[assertions."com.example.review"]
score = 1.5
file = ["{name}", {digest = "{sha256}"}]

[[file]]
match = "*.png"
source_type = "captured"
generator = "Ex Camera"

[[file]]
match = "edits/*"
source_type = "edited-with-ai"
parent = "originals/{name}"
ingredients = ["inputTo:mask.png", {path = "{stem}.txt", title = "notes"}]
"""
DAY = dt.date(2026, 11, 21)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_exceptions_and_placeholders(tmp_path: Path) -> None:
    template = load_template(write(tmp_path / "t.toml", TEMPLATE))
    work = write(tmp_path / "fox.gif", "a fox")
    digest = subprocess.run(
        ["sha256sum", str(work)], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    said = claims_for(template, work, root=tmp_path, today=DAY)
    assert said == Claims(
        title="fox of 2026-11-21",
        source_type="generated",
        generator="Ex Diffusion",
        author="Jane {Example}",
        training={"ai_training": "notAllowed"},
        assertions={"com.example.review": {"score": 1.5, "file": ["fox.gif", {"digest": digest}]}},
    )
    picture = claims_for(template, write(tmp_path / "sub.png", ""), root=tmp_path, today=DAY)
    assert (picture.source_type, picture.generator) == ("captured", "Ex Camera")
    (tmp_path / "edits").mkdir()
    edit = claims_for(template, write(tmp_path / "edits" / "a.png", ""), root=tmp_path, today=DAY)
    assert edit.source_type == "edited-with-ai"  # the later of two that fit
    assert edit.generator == "Ex Camera"
    assert edit.parent == tmp_path / "originals" / "a.png"
    assert edit.ingredients == (
        Ingredient(path=tmp_path / "mask.png", relationship="inputTo"),
        Ingredient(path=tmp_path / "a.txt", title="notes"),
    )
    assert unmatched(template, [work], root=tmp_path) == (
        'match = "*.png" fits no file',
        'match = "edits/*" fits no file',
    )


def test_json_says_the_same(tmp_path: Path) -> None:
    import tomllib

    toml = load_template(write(tmp_path / "t.toml", TEMPLATE))
    text = json.dumps(tomllib.loads(TEMPLATE))
    same = load_template(write(tmp_path / "t.json", text))
    assert (same.common, same.files) == (toml.common, toml.files)


@pytest.mark.parametrize(
    ("text", "line", "advice"),
    [
        ('titel = "x"', 2, 'did you mean "title"'),
        ('title = "{nme}"', 2, 'did you mean "name"'),
        ('title = "{0.__class__}"', 2, "unknown placeholder"),
        ('title = "{name!r}"', 2, "unknown placeholder"),
        ('title = "{}"', 2, "unknown placeholder"),
        ('title = "a}"', 2, 'write "}}"'),
        ("title = 1", 2, "expected text"),
        ("thumbnail = true", 2, "expected a number of pixels"),
        ("thumbnail = 9999", 2, "expected 0"),
        ('update = "yes"', 2, "expected true or false"),
        ('actions = ["croppd"]', 2, 'did you mean "c2pa.cropped"'),
        ("actions = [1]", 2, "expected texts"),
        ('source_type = "{name}"', 2, "unknown digital source type"),
        ("[training]\nai_trainin = 'notAllowed'", 2, 'did you mean "cawg.ai_training"'),
        ("[training]\nai_training = 1", 2, "expected texts"),
        ('ingredients = [{pth = "x"}]', 2, 'did you mean "path"'),
        ("ingredients = [1]", 2, "expected"),
        ('ingredients = ["parentOf:x"]', 2, "as the parent"),
        ('[assertions."c2pa.actions"]\nx = 1', 2, "reserved"),
        ('[assertions."com.example.a"]\nx = 2020-01-01', 2, "write dates and bytes as text"),
        ('[assertions."com.example.a"]\n"x" = "{what}"', 2, "unknown placeholder"),
        ('[[file]]\nsource_type = "generated"', 2, 'missing key "match"'),
        ('[[file]]\nmatch = "*"\ntitel = "x"', 4, 'did you mean "title"'),
        ('file = "x"', 2, "expected [[file]] tables"),
        ('parent = "a\\u0000b"', 2, "NUL"),
        ("source = 1", 2, "unknown key"),
    ],
)
def test_mistakes_are_found_before_any_file_is_signed(
    tmp_path: Path, text: str, line: int, advice: str
) -> None:
    path = write(tmp_path / "t.toml", f"# said of all\n{text}\n")
    with pytest.raises(InputError) as caught:
        load_template(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "advice"),
    [
        ("t.toml", "a =", r"t\.toml is not valid TOML: Invalid value"),
        ("t.json", '{"title": "a", "title": "b"}', 'the key "title" twice'),
        ("t.json", '{"thumbnail": NaN}', "NaN is no JSON number"),
        ("t.json", "[1]", "one JSON object"),
        ("t.json", "[" * 100_000, "not valid JSON"),
        ("t.json", '{"titel": "x"}', 'did you mean "title"'),
        ("t.yaml", "title: x", r"\.toml or \.json"),
        ("t.toml", "#" * (1 << 20) + "\n", "more than 1048576 bytes"),
    ],
    ids=["toml", "twice", "nan", "list", "deep", "key", "yaml", "large"],
)
def test_what_is_no_template_is_refused(tmp_path: Path, name: str, text: str, advice: str) -> None:
    with pytest.raises(InputError, match=advice):
        load_template(write(tmp_path / name, text))
    with pytest.raises(InputError, match="cannot read the template"):
        load_template(tmp_path / "missing.toml")


def test_the_index_has_the_last_word_and_is_taken_as_it_is(tmp_path: Path) -> None:
    template = load_template(write(tmp_path / "t.toml", TEMPLATE))
    csv = 'path,title,prompt_sha256\n./fox.gif,"{name}, {{kept}}",' + "AB" * 32 + "\nb.gif,,\n"
    lines = "\n".join(
        json.dumps(row, ensure_ascii=False)
        for row in (
            {"path": "fox.gif", "title": "{name}, {{kept}}", "prompt_sha256": "AB" * 32},
            {"path": "b.gif", "title": "line\u2028separator", "author": None},
        )
    )
    write(tmp_path / "fox.gif", "a fox")
    write(tmp_path / "b.gif", "b")
    for path in (write(tmp_path / "i.csv", csv), write(tmp_path / "i.jsonl", lines)):
        full = with_index(template, load_index(path))
        said = claims_for(full, tmp_path / "fox.gif", root=tmp_path, today=DAY)
        assert said.title == "{name}, {{kept}}"
        assert said.prompt_digest == bytes([0xAB] * 32)
        other = claims_for(full, tmp_path / "b.gif", root=tmp_path, today=DAY)
        assert other.author == "Jane {Example}"  # an empty cell says nothing
        with pytest.raises(InputError, match=r"for c\.gif: the index has no row"):
            claims_for(full, tmp_path / "c.gif", root=tmp_path)
        assert "the index has b.gif, which is no file here" in unmatched(
            full, [tmp_path / "fox.gif"], root=tmp_path
        )


@pytest.mark.parametrize(
    ("name", "text", "advice"),
    [
        ("i.csv", "path,titel\na,b\n", r':1: unknown column "titel": did you mean "title"'),
        ("i.csv", "path,title\na\n", ":2: too few cells"),
        ("i.csv", "path,title\na,b,c\n", ":2: 1 cells too many"),
        ("i.csv", "path,path\na,b\n", ":1: a column is named twice"),
        ("i.csv", "path\na\n./a\n", ':3: "a" has a row already'),
        ("i.csv", "title\na\n", ":2: no path"),
        ("i.csv", 'path\n"a', "not valid CSV"),
        ("i.csv", "path\n", "has no rows"),
        ("i.csv", "", "has no rows"),
        ("i.csv", "path,prompt_sha256\na,zz\n", ":2: .*64 hexadecimal"),
        ("i.csv", "path,source_type\na,made\n", ":2: unknown digital source type"),
        ("i.jsonl", '{"path": "a"}\n[1]\n', ":2: expected a JSON object"),
        ("i.jsonl", '{"path": "a", "title": 1}\n', ":1: expected texts only"),
        ("i.jsonl", '{"path": "a"}\n{"path"\n', ":2: not valid JSON"),
        ("i.jsonl", '{"path": "a", "path": "b"}\n', ":1: not valid JSON: the key"),
        ("i.txt", "a", r"\.csv, \.jsonl"),
    ],
)
def test_mistakes_in_an_index_are_told_with_their_line(
    tmp_path: Path, name: str, text: str, advice: str
) -> None:
    with pytest.raises(InputError, match=advice):
        load_index(write(tmp_path / name, text))


def test_contradictions_name_the_file(tmp_path: Path) -> None:
    template = load_template(write(tmp_path / "t.toml", 'generator = "G"\n'))
    with pytest.raises(InputError, match=r"t\.toml, for a\.gif: .*say how"):
        claims_for(template, tmp_path / "a.gif", root=tmp_path)


@given(name=st.text(st.characters(blacklist_characters="/\0"), min_size=1, max_size=40))
@settings(
    max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_hostile_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    """Names with braces, placeholders and format tricks are put in once, as they are."""
    template = load_template(write(tmp_path / "t.toml", 'title = "{name}|{{{name}}}"\n'))
    said = claims_for(template, Path(name + ".gif"))
    assert said.title == f"{name}.gif|{{{name}.gif}}"


WORDS = st.lists(st.sampled_from(["{", "}", "{{", "}}", "name", "stem", "x", "{name}", "é"]))


@given(words=WORDS)
@settings(
    max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_braces_mean_what_they_mean_to_python(tmp_path: Path, words: list[str]) -> None:
    """Python's own formatter has the same two escapes; what it refuses is a mistake here too."""
    text = "".join(words)
    path = write(tmp_path / "t.json", json.dumps({"title": text}))
    values = dict.fromkeys(PLACEHOLDERS, "") | {"name": "fox.gif", "stem": "fox"}
    try:
        expected = text.format(**values)
    except (ValueError, KeyError, IndexError):
        with pytest.raises(InputError, match=r"unknown placeholder|a single"):
            load_template(path)
    else:
        assert claims_for(load_template(path), Path("fox.gif")).title == expected
