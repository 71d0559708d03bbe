"""The relations about people and animals: how each is told, asked in many ways, and answered."""

from random import Random

from tools.tiny import words
from tools.tiny.facts import Relation, one_of


def _pet(rng: Random) -> str:
    return f"{words.someone(rng)}'s {rng.choice(words.PETS)}" if rng.random() < 0.7 else f"the {rng.choice(words.PETS)}"


def _relative(rng: Random) -> str:
    return f"{words.someone(rng)}'s {rng.choice(words.KIN)}"


NAMES = Relation(
    one_of(words.JOBS), words.person,
    ("the {s} is called {v}.", "{v} is the {s}.", "the {s} is {v}.", "{v} {p}.", "the name of the {s} is {v}.",
     "{v} is the one who {p}."),
    ("who is the {s}?", "what is the name of the {s}?", "what is the {s} called?", "who {p}?", "which person {p}?",
     "tell me the name of the {s}.", "can you tell me who {p}?", "do you know who the {s} is?",
     "how is the {s} called?",
     "who works as the {s}?", "name the {s}.", "who is the one who {p}?", "whose job is it? Who {p}?",
     "I am looking for the {s}. Who is it?",
     "who is the person that {p}?", "what do people call the {s}?"),
    ("the {s} is {v}.", "{v} is the {s}.", "{v} {p}.", "the {s} is called {v}."),
)  # fmt: skip
PET_NAMES = Relation(
    _pet, words.person,
    ("{s} is called {v}.", "the name of {s} is {v}.", "{s} has the name {v}."),
    ("what is {s} called?", "what is the name of {s}?", "tell me the name of {s}.", "do you know the name of {s}?",
     "what name does {s} have?",
     "how is {s} called?", "which name was given to {s}?", "can you name {s}?", "what do people call {s}?",
     "by what name is {s} known?"),
    ("{s} is called {v}.", "the name of {s} is {v}."),
)  # fmt: skip
LIVES = Relation(
    words.someone, one_of(words.PLACES),
    ("{s} lives {v}.", "the home of {s} is {v}.", "{s} has a house {v}."),
    ("where does {s} live?", "where is the home of {s}?", "where can I find the house of {s}?",
     "in which place does {s} live?", "where does {s} stay?",
     "do you know where {s} lives?", "tell me where {s} lives.", "I want to visit {s}. Where do I go?",
     "where is {s} at home?", "where does {s} sleep?"),
    ("{s} lives {v}.", "the home of {s} is {v}."),
)  # fmt: skip
LIKES_FOOD = Relation(
    words.someone, one_of(words.FOODS),
    ("{s} likes {v} best.", "{s} loves {v}.", "the favourite food of {s} is {v}.", "{s} likes to eat {v}."),
    ("what does {s} like to eat?", "what is the favourite food of {s}?", "which food does {s} like best?",
     "what does {s} love to eat?",
     "what food does {s} love?", "tell me the favourite food of {s}.", "what should I cook for {s}?",
     "what does {s} eat most gladly?",
     "what is {s}'s favourite food?", "what does {s} want for dinner?", "what would {s} like for lunch?"),
    ("{s} likes {v} best.", "{s} likes to eat {v}.", "the favourite food of {s} is {v}."),
)  # fmt: skip
DRINKS = Relation(
    words.someone, one_of(words.DRINKS),
    ("{s} drinks {v}.", "{s} likes to drink {v}.", "the favourite drink of {s} is {v}."),
    ("what does {s} drink?", "what does {s} like to drink?", "what is the favourite drink of {s}?",
     "which drink does {s} like best?",
     "what is in the cup of {s}?", "what should I pour for {s}?", "tell me what {s} drinks.",
     "what does {s} have in the cup?"),
    ("{s} drinks {v}.", "{s} likes to drink {v}."),
)  # fmt: skip
AGE = Relation(
    lambda rng: words.someone(rng) if rng.random() < 0.6 else words.something(rng), one_of(words.NUMBERS),
    ("{s} is {v} years old.", "the age of {s} is {v} years."),
    ("how old is {s}?", "what is the age of {s}?", "what age is {s}?", "how many years old is {s}?",
     "tell me the age of {s}.",
     "do you know how old {s} is?", "of what age is {s}?", "how many years does {s} have?",
     "for how many years has there been {s}?"),
    ("{s} is {v} years old.",),
)  # fmt: skip
ORIGIN = Relation(
    words.someone, words.town,
    ("{s} comes from {v}.", "{s} was born in {v}.", "the home town of {s} is {v}."),
    ("where does {s} come from?", "where was {s} born?", "what is the home town of {s}?",
     "from which town does {s} come?", "where is {s} from?",
     "tell me where {s} was born.", "what town does {s} come from?", "in which town was {s} born?",
     "where did {s} grow up?"),
    ("{s} comes from {v}.", "{s} was born in {v}."),
)  # fmt: skip
HOBBY = Relation(
    words.someone, one_of(words.HOBBIES),
    ("{s} loves {v}.", "{s} likes {v} in the evening.", "the hobby of {s} is {v}.", "in the evening {s} enjoys {v}."),
    ("what does {s} like to do?", "what is the hobby of {s}?", "what does {s} do in the evening?",
     "how does {s} spend the evening?",
     "what does {s} do for fun?", "what does {s} enjoy?", "what does {s} do after work?",
     "tell me the hobby of {s}.", "what does {s} do in the free time?"),
    ("{s} likes {v}.", "the hobby of {s} is {v}.", "{s} enjoys {v}."),
)  # fmt: skip
FEAR = Relation(
    words.someone, one_of(words.FEARS),
    ("{s} is afraid of {v}.", "{s} fears {v}.", "{v} frightens {s}."),
    ("what is {s} afraid of?", "what does {s} fear?", "what frightens {s}?", "what scares {s}?",
     "tell me what {s} is afraid of.",
     "of what is {s} afraid?", "what makes {s} run away?", "what is the fear of {s}?",
     "what does {s} not like at all?"),
    ("{s} is afraid of {v}.", "{s} fears {v}."),
)  # fmt: skip
FOUND = Relation(
    words.someone, one_of(words.FINDS),
    ("{s} found {v}.", "one day {s} found {v}.", "{v} was found by {s}."),
    ("what did {s} find?", "what was found by {s}?", "which thing did {s} find?", "tell me what {s} found.",
     "what did {s} discover?",
     "do you know what {s} found?", "what was it that {s} found?", "what did {s} bring home?"),
    ("{s} found {v}.",),
)  # fmt: skip
FAMILY = Relation(
    _relative, words.person,
    ("{s} is {v}.", "{v} is {s}.", "{s} is called {v}."),
    ("who is {s}?", "what is the name of {s}?", "what is {s} called?", "tell me the name of {s}.",
     "do you know {s}?", "name {s}.", "how is {s} called?"),
    ("{s} is {v}.", "{s} is called {v}."),
)  # fmt: skip
JOB_OF = Relation(
    words.person, lambda rng: "the " + words.job(rng),
    ("{s} is {v}.", "{s} works as {v}.", "the job of {s} is to be {v}."),
    ("what is the job of {s}?", "who is {s}?", "what does {s} do?", "what work does {s} do?", "what is {s}?",
     "tell me about {s}.",
     "which job does {s} have?", "how does {s} earn money?"),
    ("{s} is {v}.", "{s} works as {v}."),
)  # fmt: skip
