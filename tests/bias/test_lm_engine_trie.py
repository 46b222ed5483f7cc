"""Packs of token sequences: nothing lost, nothing repeated needlessly, nothing seen that must not be."""

import json
from itertools import combinations
from pathlib import Path

import lm_engine_models as tiny
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from assaymark.bias.lm_causal import inputs_of
from assaymark.bias.lm_trie import Pack, packs

SEQUENCES = some.lists(
    some.lists(some.integers(0, 2), min_size=1, max_size=6).map(tuple), min_size=1, max_size=14
)


def prefixes(sequences: list[tuple[int, ...]]) -> set[tuple[int, ...]]:
    return {one[:end] for one in sequences for end in range(1, len(one) + 1)}


def spelled(pack: Pack, place: int) -> tuple[int, ...]:
    """The tokens from the beginning to this one, by parents."""
    found: list[int] = []
    while place >= 0:
        found.append(int(pack.ids[place]))
        place = int(pack.parents[place])
    return tuple(found[::-1])


@given(SEQUENCES, some.integers(0, 30))
def test_every_sequence_is_in_one_pack_and_no_beginning_twice_in_it(
    sequences: list[tuple[int, ...]], budget: int
) -> None:
    made = packs(sequences, budget)
    found = {number: pack for pack in made for number in pack.last}
    assert sorted(found) == list(range(len(sequences)))
    assert sum(len(pack.last) for pack in made) == len(sequences)
    for number, pack in found.items():
        path = pack.path(number, len(sequences[number]))
        assert tuple(pack.ids[path]) == sequences[number]
        assert list(pack.depths[path]) == list(range(len(path)))
    for pack in made:
        texts = [spelled(pack, place) for place in range(len(pack))]
        assert set(texts) == prefixes([sequences[number] for number in pack.last])
        assert len(set(texts)) == len(texts)
        longest = max(len(sequences[number]) for number in pack.last)
        assert len(pack) <= max(budget, longest)


@given(SEQUENCES)
def test_a_large_budget_computes_each_beginning_once(sequences: list[tuple[int, ...]]) -> None:
    made = packs(sequences, 1000)
    assert sum(map(len, made)) <= len(prefixes(sequences)) + 2 * len(made)
    together = [(9, *one) for one in sequences]  # with a common beginning, one pack is the best
    assert sum(map(len, packs(together, 1000))) == len(prefixes(together))


@given(SEQUENCES, some.integers(4, 20))
def test_the_cuts_are_the_best_ones(sequences: list[tuple[int, ...]], budget: int) -> None:
    ordered = sorted(sequences)[:8]
    best = min(
        sum(len(prefixes(part)) + 2 for part in parts)
        for count in range(len(ordered))
        for cuts in combinations(range(1, len(ordered)), count)
        if (
            parts := [
                ordered[start:end]
                for start, end in zip((0, *cuts), (*cuts, len(ordered)), strict=True)
            ]
        )
        and all(len(prefixes(part)) <= max(budget, *map(len, part[-1:])) for part in parts)
    )
    made = packs(ordered, budget)
    assert sum(len(pack) + 2 for pack in made) == best


@given(SEQUENCES)
def test_the_order_of_what_is_asked_changes_nothing(sequences: list[tuple[int, ...]]) -> None:
    left, right = packs(sequences, 12), packs(sequences[::-1], 12)
    assert [pack.ids.tolist() for pack in left] == [pack.ids.tolist() for pack in right]


@settings(max_examples=20)
@given(SEQUENCES)
def test_a_token_attends_to_its_ancestors_and_itself(sequences: list[tuple[int, ...]]) -> None:
    jobs = packs(sequences, 12)
    mask = inputs_of(torch.nn.Linear(1, 1), jobs, packed=True)["attention_mask"]
    for row, pack in enumerate(jobs):
        for place in range(mask.shape[-1]):
            seen = (mask[row, 0, place] == 0).nonzero()[:, 0].tolist()
            if place >= len(pack):
                assert seen == [place]  # padding: only itself, so that no row is empty
                continue
            ancestors = [place]
            while pack.parents[ancestors[0]] >= 0:
                ancestors.insert(0, int(pack.parents[ancestors[0]]))
            assert seen == ancestors


def test_budget_zero_gives_texts_as_they_are() -> None:
    made = packs([(1, 2, 3), (1, 2), (1, 2, 4), (1, 2)], 0)
    assert [pack.ids.tolist() for pack in made] == [[1, 2, 3], [1, 2, 4]]
    assert [len(pack.last) for pack in made] == [3, 1]


@pytest.mark.parametrize("budget", [0, 10])
def test_nothing_makes_no_pack(budget: int) -> None:
    assert packs([], budget) == []


def test_one_long_sequence_is_a_pack_of_its_own() -> None:
    assert [len(pack) for pack in packs([tuple(range(50)), (7, 7)], 10)] == [50, 2]


def test_a_template_of_bbq_is_shared_across_its_items(shared: Path) -> None:
    """As many choices as lm-evaluation-harness asks; nobody says which items belong together."""
    path = shared / "data" / "bias" / "bbq" / "data" / "Religion.jsonl"
    if not path.is_file():
        pytest.skip("the official files of BBQ are not here")
    unknown = ("Unknown", "Cannot answer", "Can't be determined", "Not known", "Not enough info")
    more = (*unknown, "Cannot be determined", "Can't answer", "Not answerable", "Undetermined")
    texts = [
        f"{item['context']}\n\nQ: {item['question']}\nA: {answer}"
        for item in map(json.loads, path.read_text().splitlines()[:100])
        for answer in {*(item[f"ans{place}"] for place in range(3)), *more}
    ]
    inputs = {tuple(ids[:-1]) for ids in tiny.bytes_tokenizer()(texts)["input_ids"]}
    assert sum(map(len, inputs)) > 9 * sum(map(len, packs(sorted(inputs), 800)))
