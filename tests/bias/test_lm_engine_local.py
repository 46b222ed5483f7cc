"""Models from disk: what is read, what is refused, and what a key depends on."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import lm_engine_models as tiny
import pytest
import torch
import transformers

from assaymark.bias import lm_local
from assaymark.bias.lm_model import Blank, Continuation, Prompt, Sampling, quiet
from assaymark.reports.errors import InputError, IntegrityError

REQUESTS = [Continuation("the nurse said that", text) for text in (" she", " he", " the man")]


def saved(folder: Path, network: Any, tokenizer: Any, **more: Any) -> Path:
    network.save_pretrained(folder, **more)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "causal"
    return saved(folder, tiny.network("Llama"), tiny.bytes_tokenizer())


@pytest.fixture
def changed(causal: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(causal, tmp_path / "copy"))


def configure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("spec", ["causal", "hf:causal"])
def test_a_folder_scores_and_writes_as_the_model_in_memory(causal: Path, spec: str) -> None:
    found = lm_local.load(spec, folder=causal.parent)
    memory = lm_local.of_transformers(tiny.network("Llama"), tiny.bytes_tokenizer())
    assert found.capabilities == ("score", "generate")
    assert found.score is not None
    assert found.generate is not None
    assert memory.score is not None
    assert memory.generate is not None
    for one, other in zip(found.score(REQUESTS, quiet), memory.score(REQUESTS, quiet), strict=True):
        assert one == other
    prompts = [Prompt("the nurse said")]
    sampling = Sampling(max_tokens=5, temperature=1.0)
    assert found.generate(prompts, sampling, quiet) == memory.generate(prompts, sampling, quiet)
    digest = hashlib.sha256((causal / "model.safetensors").read_bytes()).hexdigest()
    assert found.sha256 == digest
    assert digest in found.facts["weights"]
    assert found.facts["context window"] == "64 tokens"
    assert found.facts["precision"] == "float32 on cpu"
    assert "SHA-256" in found.facts["tokenizer"]
    assert "computed once" in found.facts["scoring"]
    assert not found.chat


def test_a_masked_model_fills_blanks(tmp_path: Path) -> None:
    network = tiny.network("Roberta", masked=True)
    saved(tmp_path / "masked", network, tiny.roberta_tokenizer())
    found = lm_local.load("masked", folder=tmp_path)
    assert found.capabilities == ("masked",)
    assert found.facts["context window"] == "62 tokens"
    assert found.masked is not None
    ids = found.masked.encode("the nurse said")
    blank = Blank((*ids[:1], found.masked.mask, *ids[2:]), 1, ids[1])
    with torch.no_grad():
        logits = network(torch.tensor([blank.ids])).logits[0, 1].log_softmax(-1)
    assert found.masked.log_probs([blank]) == pytest.approx([float(logits[ids[1]])], abs=1e-5)


def test_weights_in_several_files_are_all_digested(tmp_path: Path) -> None:
    folder = saved(
        tmp_path / "m", tiny.network("Llama"), tiny.bytes_tokenizer(), max_shard_size="40KB"
    )
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) > 1
    digests = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)
    found = lm_local.load(str(folder), sha256=hashlib.sha256(digests).hexdigest())
    assert found.score is not None
    whole = lm_local.of_transformers(tiny.network("Llama"), tiny.bytes_tokenizer())
    assert whole.score is not None
    assert found.score(REQUESTS, quiet) == whole.score(REQUESTS, quiet)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_precision_is_chosen_and_known(causal: Path, dtype: Any) -> None:
    half, full = (lm_local.load(str(causal), dtype=one) for one in (dtype, "auto"))
    assert half.facts["precision"] == f"{dtype} on cpu"
    assert half.key != full.key
    assert half.score is not None


def test_the_key_depends_on_all_that_answers_depend_on(causal: Path, changed: Path) -> None:
    key = lm_local.load(str(causal)).key
    assert lm_local.load(str(changed)).key == key  # the place does not matter
    configure(changed, rms_norm_eps=1e-3)
    keys = {key, lm_local.load(str(changed)).key}
    tokenizer = json.loads((changed / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].pop()
    (changed / "tokenizer.json").write_text(json.dumps(tokenizer))
    keys.add(lm_local.load(str(changed)).key)
    network = transformers.AutoModelForCausalLM.from_pretrained(changed)
    network.get_output_embeddings().weight.data[0, 0] += 1e-3
    network.save_pretrained(changed)
    keys.add(lm_local.load(str(changed)).key)
    assert len(keys) == 4


def test_the_key_of_a_model_in_memory_depends_on_weights_and_tokenizer() -> None:
    def key(network: Any, tokenizer: Any) -> str:
        return lm_local.of_transformers(network, tokenizer).key

    network, tokenizer = tiny.network("GPT2"), tiny.bytes_tokenizer()
    assert key(network, tokenizer) == key(network, tokenizer)
    keys = {
        key(network, tokenizer),
        key(network, tiny.bytes_tokenizer(begins=True)),
        key(network, tiny.fast(tokenizer.backend_tokenizer, chat_template="{{ messages }}")),
        key(tiny.network("Llama"), tokenizer),
    }
    assert len(keys) == 4


def test_another_digest_is_not_the_approved_model(causal: Path) -> None:
    with pytest.raises(IntegrityError, match="not the one that was approved"):
        lm_local.load(str(causal), sha256="0" * 64)


def break_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def only_pickles(folder: Path) -> None:
    weights = folder / "model.safetensors"
    torch.save({}, folder / "pytorch_model.bin")
    weights.unlink()


def outside(folder: Path) -> None:
    names = {"weight_map": {"a": "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(names))


def lacking(folder: Path) -> None:
    configure(folder, num_hidden_layers=3)


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (break_json, "no readable config.json"),
        (only_pickles, "is code and is not read"),
        (outside, "names no files of its own folder"),
        (lacking, "lack 9 tensors"),
        (no_tokenizer, "cannot be read by transformers"),
        (lambda folder: configure(folder, architectures=["LlamaModel"]), "LlamaModel: expected"),
        (lambda folder: configure(folder, architectures=None), "no architecture: expected"),
        (lambda folder: configure(folder, is_encoder_decoder=True), "encoder-decoder"),
        (lambda folder: configure(folder, quantization_config={"bits": 4}), "quantized"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "is an adapter"),
        (
            lambda folder: configure(
                folder, model_type="other", auto_map={"AutoModelForCausalLM": "evil.Model"}
            ),
            "cannot be read by transformers",
        ),
    ],
)
def test_what_cannot_be_read_safely_is_refused(changed: Path, spoil: Any, message: str) -> None:
    (changed / "evil.py").write_text("raise SystemExit('this ran')")
    spoil(changed)
    with pytest.raises(InputError, match=message):
        lm_local.load(str(changed))


@pytest.mark.parametrize(
    "key", ["attn_implementation", "_attn_implementation", "experts_implementation"]
)
@pytest.mark.parametrize("inside", [False, True])
def test_attention_that_a_file_names_is_not_fetched(changed: Path, key: str, inside: bool) -> None:
    """transformers would fetch kernels of a hub, whatever attention its caller asks for."""
    named = {key: "owner/kernel"}
    configure(changed, **({"text_config": named} if inside else named))
    with pytest.raises(InputError, match="implementation owner/kernel"):
        lm_local.load(str(changed))


def test_attention_is_computed_by_torch(causal: Path) -> None:
    scorer: Any = lm_local.load(str(causal)).score
    assert scorer.__self__.model.config._attn_implementation == "sdpa"


def test_an_encoder_without_a_head_is_no_masked_language_model(tmp_path: Path) -> None:
    network = tiny.network("Bert", masked=True).base_model
    saved(tmp_path / "encoder", network, tiny.roberta_tokenizer())
    with pytest.raises(InputError, match="BertModel: expected"):
        lm_local.load("encoder", folder=tmp_path)
    with pytest.raises(InputError, match="they would be random"):
        lm_local.load("encoder", folder=tmp_path, task="masked")


def test_a_tokenizer_of_another_model_is_refused() -> None:
    network = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=1)
    )
    with pytest.raises(InputError, match="the model knows 50"):
        lm_local.of_transformers(network, tiny.bytes_tokenizer())


@pytest.mark.parametrize(
    ("spec", "more", "message"),
    [
        ("nowhere", {}, "no folder at nowhere"),
        ("hf:owner/nowhere", {}, "neither a folder nor in the local cache"),
        ("hf:", {}, "names no model"),
        ("hf://", {}, "names no model"),
        ("hf://owner/name@abc", {"revision": "def"}, "revision abc, and revision is def"),
        ("nowhere", {"batch_size": 0}, "batch_size is 0"),
        ("nowhere", {"dtype": "int8"}, "dtype is int8"),
    ],
)
def test_what_is_not_there_is_said(spec: str, more: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        lm_local.load(spec, folder=tmp_path, **more)


def test_a_snapshot_in_the_cache_is_found_and_its_revision_is_known(
    causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layout of huggingface_hub's cache."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    entry = tmp_path / "models--owner--name"
    shutil.copytree(causal, entry / "snapshots" / commit)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = lm_local.load("hf:owner/name", folder=tmp_path)
    assert found.facts["revision"] == commit
    assert found.key == lm_local.load(str(causal)).key
    assert lm_local.load("hf:owner/name", revision=commit).facts["revision"] == commit
