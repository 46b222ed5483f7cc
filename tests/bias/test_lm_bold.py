"""BOLD-style continuations: the layout of the official files, and a tiny model that was taught a bias."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from assaymark.bias.findings import Measured
from assaymark.bias.lm_bold import (
    CONTINUE,
    LANGUAGES,
    OFFICIAL,
    Beginning,
    Bold,
    load,
    own_prompts,
    run,
)
from assaymark.bias.lm_classifiers import Classifier, Scorer, scorer
from assaymark.bias.lm_model import Failed, LanguageModel, Progress, Prompt, Reply, Sampling
from assaymark.bias.lm_outcome import Outcome
from assaymark.reports.errors import InputError

GENDER = {
    "American_actors": {
        "Ann_Example": ["Ann Example is an actor "],
        "Bo_Example": ["Bo ", "As Bo "],
    },
    "American_actresses": {"Cy_Example": ["Cy Example is "]},
}
ROWS = [
    {"domain": "race", "category": "A", "name": "Di", "prompts": ["Di was "], "wikipedia": ["…"]},
    {"domain": "race", "category": "B", "name": "Ed", "prompts": ["Ed is "], "wikipedia": ["…"]},
]


def test_the_official_layout(tmp_path: Path) -> None:
    content = json.dumps(GENDER).encode()
    (tmp_path / "gender_prompt.json").write_bytes(content)
    found = load(tmp_path)
    assert found.digests == {"gender_prompt.json": hashlib.sha256(content).hexdigest()}
    assert found.language == "en"
    assert "other counts than in the official files" in found.revision
    assert found.prompts == load(tmp_path / "gender_prompt.json").prompts
    assert found.prompts[1] == Beginning(
        domain="gender",
        group="American_actors",
        cluster="American_actors/Bo_Example",
        text="Bo ",
    )


def test_the_counts_of_the_official_files(tmp_path: Path) -> None:
    """23,679 prompts in five domains (Dhamala et al. 2021, table 1)."""
    assert sum(OFFICIAL.values()) == 23_679
    for domain, n in OFFICIAL.items():
        table = {"one": {f"x{place}": ["It is "] for place in range(n)}}
        (tmp_path / f"{domain}_prompt.json").write_text(json.dumps(table))
    found = load(tmp_path)
    assert len(found.prompts) == 23_679
    assert "as many as in the official files" in found.revision


def test_one_object_a_line(tmp_path: Path) -> None:
    path = tmp_path / "race_prompt_wiki.json"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    for place in (path, tmp_path):
        found = load(place).prompts
        assert [(one.domain, one.group, one.cluster, one.text) for one in found] == [
            ("race", "A", "A/Di", "Di was "),
            ("race", "B", "B/Ed", "Ed is "),
        ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1]", "holds a list: expected"),
        ('{"a": ["b"]}', "'a' holds a list"),
        ('{"a": {"b": "c"}}', "'b' holds a str: expected a list"),
        ('{"a": {"b": ["c", 3]}}', "prompt 2 is '3': expected a text"),
        ('{"a": {"b": ["  "]}}', "expected a text"),
        ('{"a":\n {"b": [}}', "line 2"),
        ("{}", "holds no prompt"),
        ('{"domain": "a"}\n{"domain": "b"}', "line 1: no key 'category'"),
        ('{"domain": "a"}\n{"domain": }', "line 2"),
        ("[" * 100_000, "nested too deeply|line 1"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_files_that_are_not_bold(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = tmp_path / "gender_prompt.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=says):
        load(path)


def test_no_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.json"):
        with pytest.raises(InputError, match=r"expected gender_prompt\.json"):
            load(path)


@pytest.mark.parametrize("language", LANGUAGES)
def test_own_prompts(language: str) -> None:
    """Every group stands in every template once, and the templates differ in nothing else."""
    prompts = own_prompts([language]).prompts
    assert len(prompts) >= 100
    by_template: dict[str, set[str]] = {}
    for one in prompts:
        assert one.domain.startswith(f"{language} ")
        assert one.text.count(one.group) == 1
        by_template.setdefault(one.cluster, set()).add(one.text.replace(one.group, "{}"))
    assert all(len(texts) == 1 for texts in by_template.values())
    assert len({(one.cluster, one.group) for one in prompts}) == len(prompts)


def test_own_prompts_in_no_language() -> None:
    for languages, says in ((["xx"], "no prompts in 'xx'"), ([], "no language")):
        with pytest.raises(InputError, match=says):
            own_prompts(languages)


@pytest.fixture(scope="module")
def taught() -> LanguageModel:
    """A GPT-2 of one layer that was taught to go on about women with "bad", about men with "good"."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from assaymark.bias.lm_local import of_transformers

    words = ["<end>", "<unk>", "women", "men", "are", "bad", "good", "at", "work", "often", "think"]
    places = {word: place for place, word in enumerate(words)}
    known = Tokenizer(models.WordLevel(places, "<unk>"))
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=known, bos_token="<end>", eos_token="<end>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    size = {"n_positions": 24, "n_embd": 16, "n_layer": 1, "n_head": 2, "initializer_range": 0.2}
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    network = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(words), bos_token_id=0, eos_token_id=0, **size, **drop)
    )
    texts = [
        [*tokenizer(one.text)["input_ids"], places[word], places["are"], places[word], 0]
        for one in own_prompts().prompts
        for group, word in (("women", "bad"), ("men", "good"))
        if one.group == group
    ]
    longest = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
    # taught the last four tokens: not the prompt, nor what stands after the end
    labels = torch.tensor(
        [[-100] * (len(text) - 4) + text[-4:] + [-100] * (longest - len(text)) for text in texts]
    )
    step = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(40):
        step.zero_grad()
        network(ids, labels=labels).loss.backward()
        step.step()
    return of_transformers(network, tokenizer, name="taught")


TOXIC = Scorer(
    classifier=Classifier(
        name="m:f", answer=lambda texts: [0.9 if "bad" in text else 0.1 for text in texts]
    )
)


def by_name(outcome: Outcome, target: str) -> dict[str, Measured]:
    return {one.measure: one for one in outcome.measured if one.target == target}


def gender_only() -> Bold:
    whole = own_prompts()
    kept = tuple(one for one in whole.prompts if one.domain == "en gender")
    return Bold(prompts=kept, revision=whole.revision)


def test_a_taught_bias_is_found(taught: LanguageModel) -> None:
    outcome = run(
        taught,
        gender_only(),
        toxicity=TOXIC,
        sentiment=scorer("textblob"),
        samples=2,
        sampling=Sampling(max_tokens=3, temperature=1.0, seed=5),
        draws=99,
    )
    assert (outcome.items, outcome.answered) == (48, 48 - sum(outcome.lost.values()))
    assert outcome.answered >= 46
    found = by_name(outcome, "en gender")
    gap = found["bold_toxicity_rate_difference"]
    assert gap.value is not None
    assert gap.value > 0.6
    assert "for women" in gap.summary.partition(",")[0]
    for measure in (
        "bold_toxicity_rate_difference",
        "bold_sentiment_difference",
        "bold_sentiment_w1",
    ):
        interval = found[measure].interval_at(0.95)
        assert interval is not None
        assert interval.low > 0
    assert by_name(outcome, "en gender = women")["bold_expected_maximum_toxicity"].value == (
        pytest.approx(0.9, abs=0.1)
    )
    assert found["bold_toxicity_classifier_difference"].value == 0.0
    assert "24 of 24 prompts continued, 2 sample(s)" in outcome.steps[0]


def test_runs_with_the_same_seed_are_the_same(taught: LanguageModel) -> None:
    how = Sampling(max_tokens=2, temperature=2.0, seed=1)
    runs = [run(taught, gender_only(), toxicity=TOXIC, limit=4, sampling=how) for _ in range(2)]
    first, second = ([one.value for one in each.measured] for each in runs)
    assert first == second


def heard(reply: Reply | Failed, *, chat: bool = False) -> tuple[LanguageModel, list[Prompt]]:
    asked: list[Prompt] = []

    def generate(
        prompts: Sequence[Prompt], sampling: Sampling, progress: Progress
    ) -> list[Reply | Failed]:
        asked.extend(prompts)
        return [reply] * len(prompts)

    return LanguageModel(name="heard", key="heard", generate=generate, chat=chat), asked


def test_what_is_asked_and_classified(tmp_path: Path) -> None:
    path = tmp_path / "gender_prompt.json"
    path.write_text(json.dumps(GENDER))
    seen: list[str] = []

    def answer(texts: Sequence[str]) -> list[float]:
        seen.extend(texts)
        return [0.0] * len(texts)

    listens = Scorer(classifier=Classifier(name="m:f", answer=answer))
    model, asked = heard(Reply("wrote a book"), chat=True)
    outcome = run(model, load(path), toxicity=listens, variant="prompt and reply")
    assert [one.text for one in asked] == [
        "Ann Example is an actor",
        "Bo",
        "As Bo",
        "Cy Example is",
    ]
    assert {one.system for one in asked} == {CONTINUE}
    assert "Cy Example is wrote a book" in seen
    assert "wrote a book" not in seen
    assert (
        "clusters, none of them shared"
        in by_name(outcome, "gender")["bold_toxicity_rate_difference"].summary
    )
    model, asked = heard(Reply("x"))
    run(model, load(path), toxicity=listens)
    assert {one.system for one in asked} == {""}


def test_a_model_that_answers_nothing_is_not_fair() -> None:
    model, _ = heard(Failed("ceiling", "the cost ceiling was reached"))
    outcome = run(model, gender_only(), toxicity=TOXIC)
    assert (outcome.answered, outcome.lost) == (0, {"ceiling": 24})
    gap = by_name(outcome, "en gender")["bold_toxicity_rate_difference"]
    assert gap.value is None
    assert "cost ceiling" in gap.summary


def test_a_limit_keeps_the_same_templates_for_all_groups() -> None:
    model, asked = heard(Reply("x"))
    run(model, own_prompts(["en", "fr"]), toxicity=TOXIC, limit=5, seed=3)
    whole = {one.text: one for one in own_prompts(["en", "fr"]).prompts}
    kept = [whole[one.text] for one in asked]
    groups = {(one.domain, one.group) for one in whole.values()}
    assert len(kept) == 5 * len(groups)
    for domain in {one.domain for one in kept}:
        clusters = [
            frozenset(one.cluster for one in kept if (one.domain, one.group) == pair)
            for pair in groups
            if pair[0] == domain
        ]
        assert len(set(clusters)) == 1


def test_what_cannot_be_run() -> None:
    model, _ = heard(Reply("x"))
    with pytest.raises(InputError, match='did you mean "reply"'):
        run(model, variant="replies", toxicity=TOXIC)
    with pytest.raises(InputError, match="limit is 0"):
        run(model, limit=0, toxicity=TOXIC)
    with pytest.raises(InputError, match="no classifier"):
        run(model)
    with pytest.raises(InputError, match="cannot generate"):
        run(LanguageModel(name="m", key="m"), toxicity=TOXIC)
    with pytest.raises(InputError, match="samples is 0"):
        run(model, toxicity=TOXIC, samples=0)
