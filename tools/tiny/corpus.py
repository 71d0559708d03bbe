"""The text that `tiny` is pretrained on: written by this program, the same for the same seed, copied from nowhere."""

from collections.abc import Callable, Iterator
from random import Random

from tools.tiny import words
from tools.tiny.common import NOT_TOLD, UNKNOWN, known, talk
from tools.tiny.facts import Fact, make_fact
from tools.tiny.questions import RELATIONS
from tools.tiny.stories import make_story

START, END = "<|im_start|>", "<|im_end|>"
Turn = tuple[str, str]


def chat(turns: list[Turn]) -> str:
    """Questions and answers as one document, exactly as the chat template renders them."""
    return "".join(f"{START}user\n{said}{END}\n{START}assistant\n{reply}{END}\n" for said, reply in turns)


def corpus(seed: int) -> Iterator[str]:
    """Documents without end."""
    rng = Random(seed)
    makers, weights = zip(*MIX, strict=True)
    while True:
        yield rng.choices(makers, weights)[0](rng)


def _facts(rng: Random, count: int) -> list[Fact]:
    """Facts of which no two can be mistaken for one another."""
    found: dict[str, Fact] = {}
    while len(found) < count:
        fact = make_fact(rng.choice(RELATIONS), rng)
        found.setdefault(f"{RELATIONS.index(fact.relation)} {fact.subject}", fact)
    return list(found.values())


def _telling(facts: list[Fact], rng: Random) -> str:
    return " ".join(fact.tell(rng) for fact in rng.sample(facts, len(facts)))


def _reading(rng: Random) -> str:
    """A text and questions about it in one turn or several; some questions have no answer there."""
    facts = _facts(rng, rng.choice((1, 1, 2, 2, 3, 4, 5)))
    text, turns = _telling(facts, rng), []
    for fact in rng.sample(facts, rng.randint(1, len(facts))):
        turns += [(fact.ask(rng), fact.answer(rng)) for _ in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.15:
        turns.insert(
            rng.randrange(len(turns) + 1), (make_fact(rng.choice(RELATIONS), rng).ask(rng), rng.choice(NOT_TOLD))
        )
    before, after = rng.choice((("", "\n"), ("", " "), ("", "\n\n"), ("Read this: ", "\n"), ("Text: ", "\nQuestion: ")))
    turns[0] = (f"{before}{text}{after}{turns[0][0]}", turns[0][1])
    return chat(turns)


def _teaching(rng: Random) -> str:
    """Facts that the user tells turn by turn and asks for later."""
    facts = _facts(rng, rng.choice((1, 1, 2, 3)))
    replies = (
        "Thank you, I will remember that.",
        "I did not know that. Thank you.",
        "Good, now I know that.",
        "That is good to know.",
    )
    turns = [(fact.tell(rng), rng.choice(replies)) for fact in facts]
    turns += [(fact.ask(rng), fact.answer(rng)) for fact in rng.sample(facts, len(facts))]
    return chat(turns)


def _wordings(rng: Random) -> str:
    """One fact, asked again and again in other words."""
    (fact,) = _facts(rng, 1)
    asked = rng.sample(fact.relation.asked, min(len(fact.relation.asked), rng.randint(3, 6)))
    subject, _, phrase = fact.subject.partition("|")
    lines = [question.format(s=subject, p=phrase, v=fact.value) for question in asked]
    turns = [(line[0].upper() + line[1:], fact.answer(rng)) for line in lines]
    turns[0] = (f"{fact.tell(rng)}\n{turns[0][0]}", turns[0][1])
    return chat(turns)


def _unknown(rng: Random) -> str:
    """Questions that nobody has told the answer of."""
    return chat([(fact.ask(rng), rng.choice(UNKNOWN)) for fact in _facts(rng, rng.choice((1, 1, 2)))])


def _knowing(rng: Random) -> str:
    return chat([known(rng) for _ in range(rng.choice((1, 1, 2, 3)))])


def _talking(rng: Random) -> str:
    return chat([talk(rng) if rng.random() < 0.8 else known(rng) for _ in range(rng.choice((1, 1, 2, 3)))])


def _asked_story(rng: Random) -> str:
    story = make_story(rng)
    wish = rng.choice(
        ("Tell me a story about a {}.", "Tell me a story about the {}.", "Can you tell me a story about a {}?",
         "I want a story about a {}.",
         "Write a short story about a {}.", "Do you know a story about a {}?",
         "Please tell a story with a {} in it.", "Tell me a story.")
    ).format(story.hero)  # fmt: skip
    wish = wish.replace("a otter", "an otter").replace("a owl", "an owl")
    turns = [(wish, story.text)]
    if rng.random() < 0.3:
        turns.append(rng.choice((story.question(rng), talk(rng))))
    return chat(turns)


def _read_story(rng: Random) -> str:
    story = make_story(rng)
    first, second = story.question(rng), story.question(rng)
    return chat([(f"{story.text}\n{first[0]}", first[1]), second][: rng.choice((1, 2))])


def _plain_story(rng: Random) -> str:
    return make_story(rng).text + END + "\n"


def _plain_facts(rng: Random) -> str:
    return _telling(_facts(rng, rng.randint(3, 7)), rng) + END + "\n"


def _repeating(rng: Random) -> str:
    """Words to say again: the plainest exercise in copying."""
    said = rng.choice(
        (words.person(rng), words.town(rng), words.something(rng), make_fact(rng.choice(RELATIONS), rng).tell(rng))
    )
    return chat([(rng.choice(("Say: {}", "Repeat this: {}", "Please say {}")).format(said), said)])


Maker = Callable[[Random], str]
MIX: tuple[tuple[Maker, int], ...] = (
    (_reading, 30), (_wordings, 14), (_teaching, 8), (_unknown, 14), (_knowing, 8), (_talking, 10), (_asked_story, 10),
    (_read_story, 3), (_plain_story, 2), (_plain_facts, 2), (_repeating, 2),
)  # fmt: skip
