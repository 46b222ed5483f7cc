"""Language models on a GPU answer as on the CPU. Tests with the marker `gpu` need CUDA (`make gpu`)."""

from copy import deepcopy

import pytest
import torch
from lm_engine_models import CAUSAL, MASKED, TEXT, bytes_tokenizer, network, roberta_tokenizer

from assaymark.bias.lm_local import of_transformers
from assaymark.bias.lm_model import (
    Blank,
    Continuation,
    LanguageModel,
    Prompt,
    Reply,
    Sampling,
    Scored,
)
from assaymark.bias.lm_self_debias import self_debiased

REQUESTS = [Continuation("", text) for text in TEXT]
REQUESTS += [Continuation(text, " he was there") for text in TEXT]


@pytest.fixture
def cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def on(device: str, name: str, dtype: torch.dtype = torch.float32) -> LanguageModel:
    model = deepcopy(network(name, masked=name in MASKED)).to(device=device, dtype=dtype)
    return of_transformers(model, roberta_tokenizer() if name in MASKED else bytes_tokenizer())


def totals(model: LanguageModel) -> torch.Tensor:
    assert model.score is not None
    answers = model.score(REQUESTS, lambda done, total: None)
    assert all(isinstance(one, Scored) for one in answers)
    return torch.tensor([one.total for one in answers if isinstance(one, Scored)])


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("name", CAUSAL)
def test_scores_do_not_depend_on_the_device(name: str) -> None:
    torch.testing.assert_close(
        totals(on("cuda", name)), totals(on("cpu", name)), atol=1e-3, rtol=1e-4
    )


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("name", ["GPT2", "Llama"])
def test_bfloat16_is_close_and_scores_are_summed_in_float32(name: str) -> None:
    close = totals(on("cuda", name, torch.bfloat16))
    torch.testing.assert_close(close, totals(on("cpu", name)), atol=0.5, rtol=0.05)


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("name", MASKED)
def test_blanks_do_not_depend_on_the_device(name: str) -> None:
    found = []
    for device in ("cpu", "cuda"):
        model = on(device, name).masked
        assert model is not None
        ids = model.encode(TEXT[0])
        blanks = [
            Blank((*ids[:place], model.mask, *ids[place + 1 :]), place, ids[place])
            for place in range(1, len(ids) - 1)
        ]
        found.append(torch.tensor([float(one) for one in model.log_probs(blanks)]))  # type: ignore[arg-type]
    torch.testing.assert_close(found[1], found[0], atol=1e-3, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
def test_replies_and_self_debiasing_do_not_depend_on_the_device() -> None:
    said, scores = [], []
    for device in ("cpu", "cuda"):
        model = on(device, "GPT2")
        assert model.generate is not None
        assert model.network is not None
        replies = model.generate(
            [Prompt(text) for text in TEXT], Sampling(max_tokens=8), lambda done, total: None
        )
        said.append([one.text for one in replies if isinstance(one, Reply)])
        fair = self_debiased(model, *model.network, descriptions=["the nurse was a woman :"])
        scores.append(totals(fair))
    assert said[0] == said[1]
    assert len(said[0]) == len(TEXT)
    torch.testing.assert_close(scores[1], scores[0], atol=1e-3, rtol=1e-4)
