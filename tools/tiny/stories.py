"""Little stories, put together from sentences that fit one behind the other."""

from dataclasses import dataclass
from random import Random

from tools.tiny import words

OPENINGS = (
    "Once upon a time there was a {trait} {hero} called {name}.",
    "There was once a {hero} whose name was {name}. {name} was very {trait}.",
    "{name} was a {trait} {hero} who lived {place}.",
    "A long time ago a {trait} {hero} lived {place}. Its name was {name}.",
    "In a village called {town} there lived a {trait} {hero}. Everybody called it {name}.",
)
MORNINGS = (
    "Every day {name} ate {food} and looked at the clouds.", "{name} had a {colour} {thing} and was very proud of it.",
    "{name} loved {hobby} more than anything else.", "{name} had only one wish: to see the sea.",
    "One morning the sun was warm and the wind was soft.", "All the animals knew {name} well.",
    "But {name} was afraid of {fear}.",
)  # fmt: skip
# A trouble, what the friend does about it, and how it ends.
PLOTS = (
    ("One day {name} lost the {colour} {thing}. {name} looked everywhere, but it was gone.",
     ("A {friend} called {other} came by and asked: \"Why are you sad?\" \"I have lost my {thing},\" said {name}. "
     "\"Let us look together,\" said {other}."),
     "They looked {place2}, and there it was. {name} was so happy that they danced all night."),
    ("One day {name} was very hungry. There was nothing to eat in the house.",
     ("{name} went to the {friend}, who was called {other}. \"Do you have something to eat?\" asked {name}. "
     "\"I have {food2},\" said {other}, \"and there is enough for two.\""),
     "They sat down {place2} and ate until nothing was left. From that day on they always ate together."),
    ("One evening there was a big storm. The rain fell and the wind blew the roof off the house.",
     ("{name} knocked at the door of {other}, the {friend}. \"May I come in?\" asked {name}. "
      "\"Of course,\" said {other}. "
     "\"My house is small, but it is dry.\""),
     "In the morning the sun came back, and together they built a new roof out of {material}."),
    ("One day {name} found {find} {place2}. \"Whose is this?\" asked {name}.",
     "{name} asked the {friend}, called {other}. \"It is mine!\" said {other}. \"I have missed it for {number} days.\"",
     "{name} gave it back at once. {other} was so glad that {name} got {food2} as a gift."),
    ("{name} wanted to go to {town2}, but the way was long and dark.",
     "On the road {name} met {other}, the {friend}. \"I know the way,\" said {other}. \"Come with me.\"",
     "They walked for {number} hours, and when they came to {town2}, the moon was shining on the roofs."),
    ("One night {name} could not sleep. There was a strange sound {place2}.",
     "{name} took a lamp and went out. There sat {other}, the {friend}. \"I can not find my way home,\" said {other}.",
     "{name} took {other} by the hand and brought the {friend} home. After that, {name} slept very well."),
    ("{name} wanted to win the {event}. But {name} was slow, and all the others laughed.",
     "Only {other}, the {friend}, did not laugh. \"I will help you,\" said {other}. They worked hard every day.",
     "When the big day came, {name} did not win. But {name} was not the last, and that was enough."),
    ("One day a {friend} called {other} came to the village. Nobody wanted to talk to {other}.",
     "{name} said: \"Come and sit with me. Do you like {food2}?\" \"I do,\" said {other}, \"thank you.\"",
     "Soon they were good friends, and they went {hobby2} together every {day}."),
    ("{name} wanted to build a {thing} out of {material}. It fell down again and again.",
     "\"You have to go slowly,\" said {other}, the {friend}. \"First one piece, then the next.\"",
     "In the end the {thing} stood {place2}, and it was the best {thing} in the village."),
    ("One {day} {name} took the {colour} {thing} of {other}, the {friend}, and did not ask.",
     "{other} was angry. \"Why did you take my {thing}?\" \"I am sorry,\" said {name}. \"I only looked at it.\"",
     "{name} gave the {thing} back and baked {food2} for {other}. Then all was well again."),
)  # fmt: skip
ENDINGS = (
    "The end.", "And they were friends for ever.", "{name} smiled and fell asleep.", "That was a good day.",
    "And if you go {place}, you may still see them.", "Since then {name} was never {trait2} again.", "",
    "Everybody in the village was happy.", "A good friend is better than gold.",
)  # fmt: skip


@dataclass(frozen=True)
class Story:
    """A story, and the words in it that can be asked for."""

    text: str
    hero: str
    name: str
    friend: str
    other: str

    def question(self, rng: Random) -> tuple[str, str]:
        """A question about the story, and its answer."""
        return rng.choice(
            (
                (f"Who is {self.name}?", f"{self.name} is a {self.hero}."),
                (f"What kind of animal is {self.name}?", f"{self.name} is a {self.hero}."),
                (f"What is the name of the {self.hero}?", f"The {self.hero} is called {self.name}."),
                (f"What is the {self.hero} called?", f"The {self.hero} is called {self.name}."),
                (f"What is the {self.friend} called?", f"The {self.friend} is called {self.other}."),
                (f"Who is {self.other}?", f"{self.other} is a {self.friend}."),
                (f"Who helped {self.name}?", f"{self.other} is the friend of {self.name}."),
            )
        )


def make_story(rng: Random, hero: str | None = None) -> Story:
    """A story about an animal, the given one if any."""
    hero = hero or rng.choice(words.ANIMALS)
    friend = rng.choice([animal for animal in words.ANIMALS if animal != hero])
    name, other = words.person(rng), words.person(rng)
    slots = {
        "hero": hero, "friend": friend, "name": name, "other": other, "town": words.town(rng), "town2": words.town(rng),
        "trait": rng.choice(words.TRAITS), "trait2": rng.choice(("lonely", "sad", "afraid", "hungry", "lazy", "shy")),
        "place": rng.choice(words.PLACES), "place2": rng.choice(words.PLACES), "food": rng.choice(words.FOODS),
        "food2": rng.choice(words.FOODS), "colour": rng.choice(words.COLOURS), "thing": rng.choice(words.THINGS),
        "hobby": rng.choice(words.HOBBIES), "hobby2": rng.choice(("swimming", "dancing", "fishing", "rowing",
        "climbing")),
        "fear": rng.choice(words.FEARS), "material": rng.choice(words.MATERIALS), "find": rng.choice(words.FINDS),
        "number": rng.choice(words.NUMBERS[:12]), "event": rng.choice(words.EVENTS), "day": rng.choice(words.DAYS),
    }  # fmt: skip
    parts = [
        rng.choice(OPENINGS),
        *rng.sample(MORNINGS, rng.choice((0, 1, 1, 2))),
        *rng.choice(PLOTS),
        rng.choice(ENDINGS),
    ]
    text = " ".join(part.format(**slots) for part in parts if part)
    return Story(_articles(text), hero, name, friend, other)


def _articles(text: str) -> str:
    for vowel in "aeiou":
        text = text.replace(f" a {vowel}", f" an {vowel}").replace(f"A {vowel}", f"An {vowel}")
    return text
