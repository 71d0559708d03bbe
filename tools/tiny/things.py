"""The relations about places and things: how each is told, asked in many ways, and answered."""

from random import Random

from tools.tiny import words
from tools.tiny.facts import Relation, one_of
from tools.tiny.people import PET_NAMES


def _place_or_boat(rng: Random) -> str:
    return "the " + rng.choice(
        ("island", "village", "boat", "ship", "river", "hill", "inn", "lake", "ferry", "town", "beach")
    )


def _event(rng: Random) -> str:
    return f"the {rng.choice(words.EVENTS)}"


def _counted(rng: Random) -> str:
    kind = rng.choice(("steps|tower", "houses|village", "windows|house", "children|school", "boats|harbour",
    "rooms|inn",
                       "books|library", "trees|garden", "sheep|farm", "bees|hive", "people|island",
                       "bridges|town"))  # fmt: skip
    return kind if rng.random() < 0.7 else f"{rng.choice(words.GOODS)}|{rng.choice(words.SHOPS)}"


PLACE_NAMES = Relation(
    _place_or_boat, words.town, PET_NAMES.told, PET_NAMES.asked, PET_NAMES.answered,
)  # fmt: skip
COLOUR = Relation(
    words.something, one_of(words.COLOURS),
    ("{s} is {v}.", "{s} is painted {v}.", "the colour of {s} is {v}.", "{s} has a {v} colour."),
    ("what colour is {s}?", "which colour is {s}?", "what is the colour of {s}?", "what colour does {s} have?",
     "tell me the colour of {s}.",
     "in what colour is {s} painted?", "do you know the colour of {s}?", "how is {s} painted?",
     "{s} has which colour?", "which colour does {s} have?"),
    ("{s} is {v}.", "the colour of {s} is {v}.", "{s} is painted {v}."),
)  # fmt: skip
WHERE = Relation(
    words.something, one_of(words.PLACES),
    ("{s} is {v}.", "you can find {s} {v}.", "{s} can be found {v}."),
    ("where is {s}?", "where can I find {s}?", "in which place is {s}?", "where do I have to look for {s}?",
     "can you tell me where {s} is?",
     "I am looking for {s}. Where is it?", "do you know where {s} is?", "how do I find {s}?",
     "where would I see {s}?", "what is the place of {s}?"),
    ("{s} is {v}.", "you can find {s} {v}."),
)  # fmt: skip
OPENS = Relation(
    one_of(words.SHOPS, "the "), one_of(words.TIMES),
    ("{s} opens at {v}.", "{s} opens its doors at {v}.", "the doors of {s} open at {v}."),
    ("when does {s} open?", "at what time does {s} open?", "what time does {s} open?", "when can I go to {s}?",
     "how early does {s} open?",
     "what is the opening time of {s}?", "when do the doors of {s} open?", "from when is {s} open?",
     "when does {s} start its day?",
     "do you know when {s} opens?", "tell me when {s} opens.", "at which hour does {s} open its doors?",
     "since when is {s} open in the morning?"),
    ("{s} opens at {v}.", "{s} opens its doors at {v}."),
)  # fmt: skip
CLOSES = Relation(
    one_of(words.SHOPS, "the "), one_of(words.TIMES),
    ("{s} closes at {v}.", "{s} shuts its doors at {v}.", "{s} is open until {v}."),
    ("when does {s} close?", "at what time does {s} close?", "what time does {s} shut?", "until when is {s} open?",
     "how long is {s} open?",
     "what is the closing time of {s}?", "how late can I go to {s}?", "when does {s} shut its doors?",
     "tell me when {s} closes."),
    ("{s} closes at {v}.", "{s} is open until {v}."),
)  # fmt: skip
CLOSED_DAY = Relation(
    one_of(words.SHOPS, "the "), one_of(words.DAYS),
    ("{s} is closed on {v}.", "{s} does not open on {v}.", "on {v} {s} is closed."),
    ("on which day is {s} closed?", "what day is {s} closed?", "when is {s} closed?", "which day does {s} not open?",
     "when does {s} have its day off?",
     "which day of the week is {s} shut?", "on what day can I not go to {s}?", "tell me the day when {s} is closed.",
     "which day does {s} rest?"),
    ("{s} is closed on {v}.", "{s} does not open on {v}."),
)  # fmt: skip
COUNT = Relation(
    _counted, one_of(words.NUMBERS),
    ("the {p} has {v} {s}.", "there are {v} {s} in the {p}.", "the {p} holds {v} {s}."),
    ("how many {s} does the {p} have?", "how many {s} are there in the {p}?",
     "what is the number of {s} in the {p}?", "count the {s} of the {p}.",
     "how many {s} are in the {p}?", "tell me the number of {s} in the {p}.",
     "do you know how many {s} the {p} has?", "how many {s} can I count in the {p}?"),
    ("the {p} has {v} {s}.", "there are {v} {s} in the {p}."),
)  # fmt: skip
MADE_OF = Relation(
    words.something, one_of(words.MATERIALS),
    ("{s} is made of {v}.", "{s} was built from {v}.", "people made {s} out of {v}."),
    ("what is {s} made of?", "from what is {s} made?", "what was used to make {s}?",
     "which material is {s} made of?", "out of what was {s} made?",
     "of what is {s} built?", "tell me what {s} is made of.", "what material was used for {s}?",
     "what was {s} built from?"),
    ("{s} is made of {v}.", "{s} was built from {v}."),
)  # fmt: skip
OWNER = Relation(
    lambda rng: f"the {rng.choice(words.THINGS + words.SHOPS + words.PETS)}", words.someone,
    ("{s} belongs to {v}.", "{v} owns {s}.", "{v} is the owner of {s}."),
    ("who owns {s}?", "whose is {s}?", "to whom does {s} belong?", "who is the owner of {s}?",
     "who does {s} belong to?", "tell me who owns {s}.",
     "do you know the owner of {s}?", "which person owns {s}?", "who has {s}?"),
    ("{s} belongs to {v}.", "{v} owns {s}."),
)  # fmt: skip
MAKER = Relation(
    lambda rng: f"the {rng.choice(words.THINGS + words.SHOPS)}", words.someone,
    ("{v} built {s}.", "{s} was made by {v}.", "{v} made {s}."),
    ("who built {s}?", "who made {s}?", "by whom was {s} built?", "who was the builder of {s}?",
     "who is the maker of {s}?", "tell me who built {s}.",
     "which person made {s}?", "do you know who made {s}?", "{s} was the work of whom?"),
    ("{v} built {s}.", "{s} was made by {v}."),
)  # fmt: skip
SELLS = Relation(
    lambda rng: f"the {rng.choice(words.SHOPS)}" if rng.random() < 0.6 else words.someone(rng), one_of(words.GOODS),
    ("{s} sells {v}.", "you can buy {v} from {s}."),
    ("what does {s} sell?", "what can I buy from {s}?", "what can I get from {s}?", "which things does {s} sell?",
     "tell me what {s} sells.",
     "what is for sale at {s}?", "what goods does {s} have?", "what can people buy from {s}?"),
    ("{s} sells {v}.", "you can buy {v} from {s}."),
)  # fmt: skip
EVENT = Relation(
    _event, lambda rng: ("on " + rng.choice(words.DAYS)) if rng.random() < 0.4 else ("in " + rng.choice(words.MONTHS)),
    ("{s} is {v}.", "{s} takes place {v}.", "people hold {s} {v}."),
    ("when is {s}?", "when does {s} take place?", "when do people hold {s}?", "at what time of the year is {s}?",
     "on which day is {s}?",
     "in which month is {s}?", "when can I see {s}?", "do you know when {s} is?", "tell me when {s} takes place.",
     "when do people come to {s}?"),
    ("{s} is {v}.", "{s} takes place {v}."),
)  # fmt: skip
TRAVEL = Relation(
    one_of(words.VEHICLES, "the "),
    lambda rng: words.town(rng) if rng.random() < 0.6 else "the " + rng.choice(words.SHOPS),
    ("{s} goes to {v}.", "{s} takes people to {v}.", "{v} is where {s} goes."),
    ("where does {s} go?", "to which place does {s} go?", "where does {s} take people?", "what is the goal of {s}?",
     "which town does {s} go to?",
     "where can I go with {s}?", "where will {s} take me?", "tell me where {s} goes."),
    ("{s} goes to {v}.", "{s} takes people to {v}."),
)  # fmt: skip
TRAVEL_TIME = Relation(
    one_of(words.VEHICLES, "the "),
    lambda rng: ("on " if (late := rng.random() < 0.5) else "at ") + rng.choice(words.DAYS if late else words.TIMES),
    ("{s} leaves {v}.", "{s} starts {v}."),
    ("when does {s} leave?", "when does {s} start?", "at what time does {s} leave?", "on which day does {s} leave?",
     "when can I take {s}?",
     "when do I have to be there for {s}?", "what time is {s}?", "tell me when {s} leaves.", "when does {s} set off?"),
    ("{s} leaves {v}.", "{s} starts {v}."),
)  # fmt: skip
