"""Many answers at once are those that each would have been alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest
import torch

from llm_installer.inference.engine.engine import Engine
from llm_installer.inference.engine.request import BASE, Request, TooLong, UnknownModel
from llm_installer.inference.engine.request import Sampling as RowSampling
from llm_installer.inference.generate import Sampling, answer
from llm_installer.inference.load import assistants
from tests.inference.engine.conftest import KINDS, Heard, Stories

Ask = Callable[..., Heard]
TEXTS = [
    "Once upon a time, there was a little girl",
    "Tom and his dog",
    "The sun",
    "One day, a big bear went into the forest to find some honey. He was very hungry and",
    "Lily said",
]


@pytest.fixture(scope="session")
def alone(stories: Stories) -> dict[tuple[str, str], str]:
    """What each model says to each text by transformers' generate, one at a time."""
    names = [BASE, *KINDS]
    loras = [None, *(stories.adapters[name] for name in KINDS)]
    found = {}
    for name, assistant in zip(names, assistants(stories.folder, loras), strict=True):
        for text in TEXTS:
            ids = assistant.encoder.text_ids(text)
            found[name, text] = answer(assistant.model, assistant.encoder, ids, Sampling(24)).text
    return found


def test_rows_of_all_models_answer_as_if_they_were_alone(engine: Engine, ask: Ask, alone) -> None:
    assert not engine.why_alone and engine._scheduler._batch._plan, "answered by plan, as here, or by the model itself"
    assert len({said for (_, text), said in alone.items() if text == TEXTS[0]}) == 1 + len(KINDS)
    wanted = [(name, text) for text in TEXTS for name in (BASE, *KINDS)]
    heard = [ask(text, name) for name, text in wanted]
    said = [each.ends()[0][0] for each in heard]
    assert said == [alone[each] for each in wanted]


def test_rows_that_join_and_leave_at_random_answer_as_if_they_were_alone(ask: Ask, alone) -> None:
    wrong: list[tuple[str, str]] = []

    def customer(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(6):
            name, text = chance.choice([BASE, *KINDS]), chance.choice(TEXTS)
            tokens = chance.randrange(1, 25)
            said = ask(text, name, tokens).ends()[0][0]
            if not alone[name, text].startswith(said.removesuffix("\ufffd")) or not (said or tokens < 3):
                wrong.append((said, alone[name, text]))

    threads = [threading.Thread(target=customer, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_is_cancelled_leaves_and_the_others_stay(engine: Engine, ask: Ask, alone) -> None:
    stayed = ask(TEXTS[0], "dora")
    heard = Heard()
    ids = tuple(engine.served[BASE].encoder.text_ids(TEXTS[1]))
    ticket = engine.submit(Request(BASE, ids, 400), heard.events.put)
    heard.events.get(timeout=60)
    ticket.cancel()
    assert heard.ends_cancelled() < 400
    assert stayed.ends()[0][0] == alone["dora", TEXTS[0]]


def test_several_answers_share_one_reading(engine: Engine, ask: Ask) -> None:
    before = engine.counts().prompt_tokens
    warm = RowSampling(temperature=1.0, seed=5)
    several = ask(TEXTS[3], "plain", n=4, sampling=warm).ends(4)
    read = engine.counts().prompt_tokens - before
    assert read == len(engine.served[BASE].encoder.text_ids(TEXTS[3]))
    assert len({text for text, _, _ in several.values()}) == 4
    alone_third = ask(TEXTS[3], "plain", sampling=RowSampling(temperature=1.0, seed=7)).ends()
    assert alone_third[0] == several[2]


def test_a_seed_means_the_same_alone_and_in_a_crowd(ask: Ask) -> None:
    warm, everybody = RowSampling(temperature=0.9, top_p=0.9, top_k=40, min_p=0.01, seed=11), torch.get_rng_state()
    one = ask(TEXTS[0], "taught", sampling=warm).ends()[0]
    crowd = [ask(TEXTS[i % 5], (BASE, *KINDS)[i % 5], 20, sampling=RowSampling(1.0, seed=i)) for i in range(15)]
    among = ask(TEXTS[0], "taught", sampling=warm).ends()[0]
    other = ask(TEXTS[0], "taught", sampling=RowSampling(0.9, 0.9, 40, 0.01, seed=12)).ends()[0]
    assert [each.ends() for each in crowd]
    assert one == among != other
    assert torch.equal(torch.get_rng_state(), everybody), "nobody else's random numbers were drawn from"


def test_a_chat_that_goes_on_is_not_read_again(engine: Engine, alone) -> None:
    encoder = engine.served["plain"].encoder
    ids = tuple(encoder.text_ids(TEXTS[3]))
    heard = Heard()
    engine.submit(Request("plain", ids, 24), heard.events.put)
    _, made, _ = heard.ends()[0]
    longer = (*ids, *made, *encoder.text_ids(" Then he")[1:])
    fresh, again = Heard(), Heard()
    ticket = engine.submit(Request("plain", longer, 24), again.events.put)
    said = again.ends()[0]
    assert ticket.reused_tokens == len(ids) + len(made) - 1
    engine._thread.submit(engine._scheduler._kept.shrink, 0).result()
    other = engine.submit(Request("plain", longer, 24), fresh.events.put)
    assert fresh.ends()[0] == said and other.reused_tokens == 0


def test_a_prompt_that_cannot_be_begun_is_told_so_and_the_next_is_answered(engine: Engine, ask: Ask) -> None:
    ids = engine.served["plain"].encoder.text_ids(TEXTS[3])
    said = ask(TEXTS[3], "plain").ends()[0]
    odd = torch.zeros(1, 3, len(ids), 3)
    engine._thread.submit(engine._scheduler._kept.keep, "plain", ids, [(odd, odd)]).result()
    assert ask(TEXTS[3], "plain").ends()[0][2].startswith("error") and engine.alive
    engine._thread.submit(engine._scheduler._kept.shrink, 0).result()
    assert ask(TEXTS[3], "plain").ends()[0] == said


def test_what_one_model_computed_is_nothing_to_another(engine: Engine) -> None:
    ids = tuple(engine.served[BASE].encoder.text_ids(TEXTS[3]))
    for name in ("dora", "taught"):
        heard = Heard()
        ticket = engine.submit(Request(name, ids, 4), heard.events.put)
        heard.ends()
        assert ticket.reused_tokens in (0, len(ids) - 1)
    heard = Heard()
    ticket = engine.submit(Request("patterned", (*ids, 5), 4), heard.events.put)
    heard.ends()
    assert ticket.reused_tokens in (0, len(ids))


def test_stop_texts_end_an_answer_and_are_not_in_it(ask: Ask, alone) -> None:
    whole = alone[BASE, TEXTS[0]]
    stop = whole[10:16]
    text, ids, reason = ask(TEXTS[0], stop=(stop,)).ends()[0]
    assert (text, reason) == (whole[: whole.index(stop)], "stop")
    assert len(ids) < 24


def test_logprobs_are_those_of_the_model(engine: Engine, ask: Ask) -> None:
    heard = ask(TEXTS[0], tokens=3, logprobs=4)
    tokens = []
    while len(tokens) < 3:
        tokens += heard.events.get(timeout=60).tokens
    for token in tokens:
        assert token.top[0] == (token.id, pytest.approx(token.logprob))
        assert sorted((value for _, value in token.top), reverse=True) == [value for _, value in token.top]
        assert len(token.top) == 4 and token.logprob <= 0


def test_logprobs_are_before_temperature_bias_and_penalties(ask: Ask) -> None:
    def first(sampling: RowSampling) -> dict[int, float]:
        heard = ask(TEXTS[0], tokens=1, logprobs=5, sampling=sampling)
        return dict(heard.events.get(timeout=60).tokens[0].top)

    plain = first(RowSampling())
    (likeliest, *_) = plain
    for sampling in (
        RowSampling(temperature=2.0, seed=1),
        RowSampling(temperature=0.5, top_p=0.2, top_k=2, seed=1),
        RowSampling(logit_bias={likeliest: -100.0}, presence_penalty=1.0),
    ):
        assert first(sampling) == pytest.approx(plain)


def test_bias_and_penalties_change_what_is_said(ask: Ask) -> None:
    _, ids, _ = ask(TEXTS[0]).ends()[0]
    _, banned, _ = ask(TEXTS[0], sampling=RowSampling(logit_bias={ids[0]: -100.0})).ends()[0]
    assert ids[0] not in banned
    _, often, _ = ask(TEXTS[0], tokens=60).ends()[0]
    _, seldom, _ = ask(TEXTS[0], tokens=60, sampling=RowSampling(presence_penalty=2.0, frequency_penalty=2.0)).ends()[0]
    assert len(set(seldom)) > len(set(often))


def test_too_long_and_unknown_are_said_at_once(engine: Engine) -> None:
    with pytest.raises(TooLong, match=r"500 tokens .* 100; this model reads 512 in all"):
        engine.submit(Request(BASE, (5,) * 500, 100), print)
    with pytest.raises(UnknownModel, match="nobody"):
        engine.submit(Request("nobody", (5,), 1), print)


def test_an_adapter_that_is_removed_answers_to_its_end(stories: Stories, engine: Engine, ask: Ask, alone) -> None:
    engine.add("passing", stories.adapters["plain"])
    heard = [ask(text, "passing") for text in TEXTS]
    engine.remove("passing")
    with pytest.raises(KeyError):
        ask(TEXTS[0], "passing")
    assert [each.ends()[0][0] for each in heard] == [alone["plain", text] for text in TEXTS]
    assert ask(TEXTS[0], "dora").ends()[0][0] == alone["dora", TEXTS[0]]


def test_at_the_end_nobody_is_left(engine: Engine) -> None:
    counts = engine.counts()
    assert (counts.answering, counts.reading, counts.waiting) == (0, 0, 0)
    assert counts.kept <= 16 and counts.cache_bytes < 1 << 30
