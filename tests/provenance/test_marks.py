"""Every generator's mark, written into a real file by other programs, is found; forged ones are not."""

import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image
from written_marks import (
    WRITERS,
    chunk,
    exif,
    film,
    packet,
    picture,
    plain,
    put,
    stealthy,
    ways,
)

from assaymark.provenance.evidence import Evidence, Says
from assaymark.provenance.marks import GeneratorMark, generator_marks, marks_in
from assaymark.provenance.material import open_material
from assaymark.provenance.metadata_evidence import look_metadata
from assaymark.provenance.source_types import SOURCE_TYPES
from assaymark.provenance.statements import read_statements

MARKS = generator_marks()
CONTAINERS = (
    "JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "mp4", "mov", "mp3", "flac", "ogg", "wav",
    "avi", "matroska",
)  # fmt: skip
DECIDES = (Says.GENERATED, Says.MANIPULATED)
A1111 = next(mark for mark in MARKS if mark.generator == "Stable Diffusion WebUI").example


def look(path: Path) -> list[Evidence]:
    return list(look_metadata(open_material(path)))


def decided(path: Path) -> list[Evidence]:
    return [one for one in look(path) if one.says in DECIDES]


def named(mark: GeneratorMark) -> str:
    return f"{MARKS.index(mark)} {mark.generator}"


@pytest.mark.parametrize("mark", MARKS, ids=named)
def test_a_mark_is_found_in_every_container_that_has_its_places(
    mark: GeneratorMark, tmp_path: Path
) -> None:
    beside = dict.fromkeys(mark.beside, mark.example_beside)
    for place in mark.places:
        for container, write in ways(place):
            path = put(tmp_path, container, write({place: mark.example, **beside}))
            found = [
                one
                for one in look(path)
                if one.details.get("generator") == mark.generator
                and place in one.details.get("places", ())
            ]
            assert [one.says for one in found] == [mark.says], (place, container, look(path))
            assert len(found[0].summary) < 700


def test_the_table_names_thirty_four_programs_and_services_each_with_its_source() -> None:
    named = {mark.generator for mark in MARKS if not mark.generator.startswith(("a ", "an "))}
    assert len(named) >= 34
    assert all(mark.source and mark.places for mark in MARKS)


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_words_of_a_mark_behind_the_end_of_a_file_are_no_mark(
    container: str, tmp_path: Path
) -> None:
    forms = ("{}", "parameters\0{}", '<x:xmpmeta TC260:AIGC="{}">', "\0prompt\0{}\0")
    words = [form.format(mark.example).encode() for mark in MARKS for form in forms]
    for forged in (b"".join(words), b"Made with Google AI", b"Job ID: 13b"):
        assert not decided(put(tmp_path, container, plain(container) + forged))


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_marked_file_behind_a_plain_one_is_no_part_of_it(container: str, tmp_path: Path) -> None:
    at = {
        "mp4": "mp4:comment", "mov": "mp4:comment", "mp3": "id3:COMM", "flac": "vorbis:comment",
        "ogg": "vorbis:description", "wav": "riff:ICMT", "avi": "riff:ICMT", "matroska": "ebml:comment",
        "GIF": "gif:comment", "PNG": "png:parameters",
    }  # fmt: skip
    place = at.get(container, "exif:UserComment")
    text = A1111 if container.isupper() else next(m for m in MARKS if m.generator == "Suno").example
    marked = dict(ways(place))[container]({place: text})
    assert decided(put(tmp_path, container, marked))
    assert not decided(put(tmp_path, container, plain(container) + marked))


@pytest.mark.parametrize(
    ("name", "forged"),
    [
        (
            "in a chunk that is no text",
            lambda: _inserted(chunk(b"prVt", b"parameters\0" + A1111.encode())),
        ),
        (
            "with a wrong checksum",
            lambda: _inserted(chunk(b"tEXt", b"parameters\0" + A1111.encode())[:-1] + b"!"),
        ),
        (
            "in a comment of the author",
            lambda: _inserted(chunk(b"tEXt", b"Author\0" + A1111.encode())),
        ),
        ("in a keyword of no length", lambda: _inserted(chunk(b"tEXt", b"\0" + A1111.encode()))),
        (
            "in the pixels",
            lambda: picture("PNG", Image.frombytes("RGB", (20, 20), A1111.encode().ljust(1200))),
        ),
        (
            "a word alone",
            lambda: _inserted(chunk(b"tEXt", b"parameters\0Steps: 20, Midjourney ComfyUI")),
        ),
        (
            "JSON that is no graph",
            lambda: _inserted(chunk(b"tEXt", b'prompt\0{"class_type": "a", "b": {}}')),
        ),
        ("JSON too deep", lambda: _inserted(chunk(b"tEXt", b"prompt\0" + b'{"a":' * 100000))),
    ],
)
def test_a_mark_in_the_wrong_place_does_not_count(
    name: str, forged: "type[bytes]", tmp_path: Path
) -> None:
    assert not decided(put(tmp_path, "PNG", forged()))


def _inserted(extra: bytes) -> bytes:
    data = plain("PNG")
    return data[:33] + extra + data[33:]


def test_a_zip_bomb_is_refused_and_the_rest_is_read(tmp_path: Path) -> None:
    bomb = chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(8 << 20), 9))
    text = chunk(b"tEXt", b"Software\0NovelAI")
    found = decided(put(tmp_path, "PNG", _inserted(bomb + text)))
    assert [one.details["generator"] for one in found] == ["NovelAI"]
    assert any("more than" in sentence for sentence in found[0].details["troubles"])


@pytest.mark.parametrize(
    "head",
    [
        "<!DOCTYPE x [<!ENTITY a 'Made with Google AI'>]>",
        "<!DOCTYPE x SYSTEM 'file:///etc/passwd'>",
    ],
    ids=["entity", "system"],
)
def test_an_xmp_packet_that_declares_a_document_type_is_refused(head: str, tmp_path: Path) -> None:
    data = packet({"xmp:photoshop:Credit": "Made with Google AI"}, element=True)
    assert decided(put(tmp_path, "JPEG", picture("JPEG", xmp=data)))
    path = put(tmp_path, "JPEG", picture("JPEG", xmp=head.encode() + data))
    (one,) = look(path)
    assert one.says is Says.NOTHING
    assert "document type" in one.details["troubles"][0]


def test_properties_of_another_work_are_not_the_pictures_own(tmp_path: Path) -> None:
    data = packet({"xmp:photoshop:Credit": "Made with Google AI"}, element=True).decode()
    start, end = data.index("<myphotoshop"), data.index("</rdf:Description>")
    nested = (
        f"{data[:start]}<m:Ingredients xmlns:m='http://ns.adobe.com/xap/1.0/mm/'><rdf:Bag>"
        f"<rdf:li rdf:parseType='Resource'>{data[start:end]}</rdf:li></rdf:Bag></m:Ingredients>{data[end:]}"
    )
    assert not decided(put(tmp_path, "JPEG", picture("JPEG", xmp=nested.encode())))


EXPECTED = {
    "trainedAlgorithmicMedia": Says.GENERATED,
    "trainedAlgorithmicData": Says.GENERATED,
    "compositeWithTrainedAlgorithmicMedia": Says.MANIPULATED,
    "compositeSynthetic": Says.MANIPULATED,
}


@pytest.mark.parametrize("name", SOURCE_TYPES)
def test_a_digital_source_type_is_read_in_every_form(name: str, tmp_path: Path) -> None:
    uri = SOURCE_TYPES[name].uri
    for text in (uri, uri.replace("http:", "https:"), name):
        for element in (False, True):
            data = packet({"xmp:Iptc4xmpExt:DigitalSourceType": text}, element=element)
            (one,) = look(put(tmp_path, "JPEG", picture("JPEG", xmp=data)))
            assert one.details["source_type"] == name
            assert one.says is EXPECTED.get(name, Says.NOTHING)


def test_a_digital_source_type_as_a_resource_is_read_and_one_of_a_nested_packet_is_not(
    tmp_path: Path,
) -> None:
    uri = SOURCE_TYPES["trainedAlgorithmicMedia"].uri
    data = packet({"xmp:Iptc4xmpExt:DigitalSourceType": uri}, element=True).decode()
    name = "myIptc4xmpExt:DigitalSourceType"
    resource = data.replace(f"<{name}>{uri}</{name}>", f"<{name} rdf:resource='{uri}'/>")
    (one,) = decided(put(tmp_path, "JPEG", picture("JPEG", xmp=resource.encode())))
    assert one.says is Says.GENERATED
    nested = data.replace(
        f"<{name}>{uri}</{name}>",
        f"<a:b xmlns:a='a'><rdf:RDF><rdf:Description {name}='{uri}'/></rdf:RDF></a:b>",
    )
    assert nested != data != resource
    assert not decided(put(tmp_path, "JPEG", picture("JPEG", xmp=nested.encode())))


@pytest.mark.parametrize(
    "word", ["aiGenerated!!", "digitalArt", "x/y", "http://example.org/trainedAlgorithmicMedia"]
)
def test_a_source_type_that_is_none_decides_nothing(word: str, tmp_path: Path) -> None:
    data = packet({"xmp:Iptc4xmpExt:DigitalSourceType": word})
    (one,) = look(put(tmp_path, "JPEG", picture("JPEG", xmp=data)))
    assert one.says is Says.NOTHING


def _camera(software: str = "Ver.1.00", **more: str) -> Image.Exif:
    made = exif(
        {"exif:Make": "NIKON CORPORATION", "exif:Model": "NIKON D3", "exif:Software": software}
    )
    inside = made.get_ifd(0x8769)
    inside.update(
        {0x829A: (1, 250), 0x829D: (28, 10), 0x8827: 200, 0x927C: b"Nikon\0\2\x10\0\0MM\0*"}
    )
    made.get_ifd(0x8825)[1] = "N"
    for place, text in more.items():
        made[int(place[1:])] = text
    return made


@pytest.mark.parametrize("format_", ["JPEG", "TIFF", "WEBP", "PNG"])
def test_a_cameras_exif_speaks_for_nothing(format_: str, tmp_path: Path) -> None:
    path = put(tmp_path, format_, picture(format_, exif=_camera().tobytes()))
    (one,) = look(path)
    assert one.says is Says.NOTHING
    assert one.details["camera"]["consistent"] is True
    assert one.details["camera"]["maker_note"] == "nikon"


def test_a_camera_beside_a_generator_is_told(tmp_path: Path) -> None:
    made = _camera(_270="a fox Job ID: 0b9f3c2e-1234-4d5e-9f00-aabbccddeeff")
    found = look(put(tmp_path, "JPEG", picture("JPEG", exif=made.tobytes())))
    assert [one.says for one in found] == [Says.GENERATED, Says.NOTHING]
    assert found[0].details["contradictions"] == [
        "it is said to be generated and to come from a camera"
    ]


def test_two_generators_and_a_capture_contradict_each_other(tmp_path: Path) -> None:
    data = packet(
        {
            "xmp:photoshop:Credit": "Made with Google AI",
            "xmp:dc:description": "a fox Job ID: 0b9f3c2e-1234-4d5e-9f00-aabbccddeeff",
            "xmp:Iptc4xmpExt:DigitalSourceType": "digitalCapture",
        }
    )
    found = look(put(tmp_path, "JPEG", picture("JPEG", xmp=data)))
    assert len(found[0].details["contradictions"]) == 2


def test_editing_programs_are_named_and_decide_nothing(tmp_path: Path) -> None:
    made = exif({"exif:Software": "Adobe Photoshop 25.0 (Windows)"})
    (one,) = look(put(tmp_path, "JPEG", picture("JPEG", exif=made.tobytes())))
    assert (one.says, one.details["editors"]) == (Says.NOTHING, ["Adobe Photoshop"])


def test_what_a_file_says_is_shown_escaped_and_short(tmp_path: Path) -> None:
    text = (
        "a \u202efox<script>\n"
        + "x" * 3000
        + "\nSteps: 20, Sampler: Euler a, Seed: 1, Version: v1.10.1"
    )
    path = put(tmp_path, "PNG", _inserted(chunk(b"iTXt", b"parameters\0\0\0\0\0" + text.encode())))
    (one,) = decided(path)
    assert "\u202e" not in one.summary
    assert "\n" not in one.summary
    assert len(one.summary) < 400


def test_the_prompt_and_the_model_are_read(tmp_path: Path) -> None:
    (one,) = decided(
        put(tmp_path, "PNG", _inserted(chunk(b"tEXt", b"parameters\0" + A1111.encode())))
    )
    assert one.details["model"] == "v1-5-pruned-emaonly"
    assert one.details["prompt"].startswith("masterpiece, a red fox")
    graph = {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m.safetensors"}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox"}},
    }
    (one,) = decided(put(tmp_path, "mp4", film("mp4", {"prompt": json.dumps(graph)}, keys=True)))
    assert (one.details["model"], one.details["prompt"]) == ("m.safetensors", "a fox")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", ["stealth:alpha", "stealth:rgb"])
def test_text_in_the_lowest_bits_is_read_from_lossless_pictures(
    place: str, packed: bool, tmp_path: Path
) -> None:
    for format_ in ("PNG", "WEBP"):
        path = put(tmp_path, format_, stealthy({place: A1111}, format_, packed=packed))
        assert [one.details["places"] for one in decided(path)] == [[place]]


def test_half_a_hidden_text_is_none(tmp_path: Path) -> None:
    data = stealthy({"stealth:alpha": A1111})
    with Image.open(put(tmp_path, "PNG", data)) as opened:
        cut = opened.crop((0, 0, 8, 96))
    assert not decided(put(tmp_path, "PNG", picture("PNG", cut)))


@pytest.mark.parametrize("container", CONTAINERS)
def test_cut_and_damaged_files_are_told_and_never_crash(container: str, tmp_path: Path) -> None:
    data = plain(container)
    for end in range(1, len(data), max(1, len(data) // 25)):
        path = put(tmp_path, container, data[:end])
        written = read_statements(path)
        assert written is None or not marks_in(written)
    for at in range(8, min(len(data), 3000), 61):
        broken = data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]
        written = read_statements(put(tmp_path, container, broken))
        assert written is None or not marks_in(written)


def test_a_directory_of_exif_that_points_at_itself_ends(tmp_path: Path) -> None:
    loop = b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + b"\x08\0\0\0"
    assert not decided(put(tmp_path, "JPEG", picture("JPEG", exif=loop)))


def test_other_kinds_of_file_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(A1111)
    (one,) = look(path)
    assert one.says is Says.ABSTAINS


@pytest.mark.long
def test_real_photographs_of_the_given_data_have_no_mark(shared: Path) -> None:
    files = [
        path
        for folder in ("data/detect/images/native/real", "data/c2pa/public-testfiles/image/jpeg")
        for path in sorted((shared / folder).rglob("*"))
        if path.suffix in (".jpg", ".jpeg", ".png", ".webp")
    ]
    if not files:
        pytest.skip("no photographs in ../shared")
    generated = [path.name for path in files for one in decided(path) if "generator" in one.details]
    assert generated == []


def test_every_way_of_writing_is_used() -> None:
    places = {place for mark in MARKS for place in mark.places}
    for start in WRITERS:
        assert any(place.startswith(start) for place in places), start
