"""The relations that the pretraining text tells, asks and answers."""

from tools.tiny import people, things

RELATIONS = (
    people.NAMES,
    people.NAMES,
    people.PET_NAMES,
    things.PLACE_NAMES,
    things.COLOUR,
    things.WHERE,
    people.LIVES,
    things.OPENS,
    things.CLOSES,
    things.CLOSED_DAY,
    people.LIKES_FOOD,
    people.DRINKS,
    people.AGE,
    things.COUNT,
    things.MADE_OF,
    things.OWNER,
    things.MAKER,
    people.ORIGIN,
    things.SELLS,
    people.HOBBY,
    people.FEAR,
    things.EVENT,
    things.TRAVEL,
    things.TRAVEL_TIME,
    people.FOUND,
    people.FAMILY,
    people.JOB_OF,
)
