"""The few hundred words that the world of `tiny` is made of, and invented names for its people and places."""

from random import Random

ANIMALS = (
    "fox", "bear", "mouse", "rabbit", "owl", "frog", "duck", "goat", "hen", "horse", "cat", "dog", "hedgehog",
    "squirrel",
    "sheep", "pig", "donkey", "otter", "badger", "crow", "snail", "bee", "seal", "gull", "turtle", "goose", "parrot",
    "cow",
    "whale", "crab", "herring", "penguin", "wolf", "deer", "swan", "cricket", "beetle", "moth", "ox", "lynx",
)  # fmt: skip
PETS = (
    "cat",
    "dog",
    "goat",
    "parrot",
    "donkey",
    "rabbit",
    "horse",
    "goose",
    "hen",
    "turtle",
    "mouse",
    "pig",
    "cow",
    "crow",
    "lizard", "pony", "puppy", "kitten", "canary", "toad", "ferret",
)  # fmt: skip
TRAITS = (
    "small", "brave", "shy", "clever", "lazy", "kind", "curious", "hungry", "sleepy", "old", "young", "proud", "happy",
    "lonely", "quiet", "funny", "gentle", "busy",
)  # fmt: skip
COLOURS = (
    "red", "blue", "green", "yellow", "white", "black", "brown", "grey", "orange", "pink", "purple", "gold", "silver",
    "dark blue", "light green", "dark red",
    "violet", "cream", "bright yellow", "pale blue",
)  # fmt: skip
MATERIALS = (
    "wood",
    "stone",
    "glass",
    "iron",
    "paper",
    "wool",
    "silver",
    "gold",
    "clay",
    "ice",
    "leather",
    "straw",
    "copper",
    "driftwood", "bricks", "sand", "feathers", "bone", "cork", "steel", "wax", "shells", "moss",
)  # fmt: skip
FOODS = (
    "apple pie", "bread", "cheese", "honey", "soup", "carrots", "plums", "cake", "nuts", "porridge", "fish", "jam",
    "pears",
    "milk", "berries", "pancakes", "potatoes", "mushrooms", "buns", "onion soup", "cherry cake", "fresh rolls",
    "pea soup",
    "seaweed buns", "plum soup", "waffles", "beans", "chocolate", "onions", "noodles", "sausages", "rice",
    "ginger bread", "salad", "dumplings",
)  # fmt: skip
DRINKS = ("tea", "milk", "water", "apple juice", "hot chocolate", "coffee", "lemonade", "mint tea", "plum juice",
    "nettle tea", "cocoa", "ginger beer", "fresh water", "pear juice", "black coffee",
)  # fmt: skip
GOODS = (
    "books", "shoes", "flowers", "candles", "baskets", "ropes", "hats", "lamps", "bread", "fish", "cakes", "apples",
    "toys",
    "pots", "maps", "blankets", "clocks", "nets", "kites", "seeds", "spoons", "eggs", "letters", "ribbons", "soap",
    "rugs", "jars", "buttons", "drums", "mirrors", "whistles", "socks", "gloves", "pencils", "cheese", "honey",
    "shells",
)  # fmt: skip
THINGS = (
    "boat", "door", "bell", "lamp", "bridge", "roof", "gate", "kite", "hat", "coat", "chair", "table", "clock", "cart",
    "wall", "flag", "drum", "window", "box", "key", "ring", "scarf", "cup", "tower", "fence", "bucket", "sail", "ferry",
    "house", "chest", "bench", "statue", "ladder", "mill", "barn", "stove", "rope", "carpet", "shed", "post box",
    "weather vane", "anchor", "oven", "wheel", "mirror", "piano", "violin", "umbrella", "sledge", "balloon", "wagon",
    "pump", "fountain", "raft",
)  # fmt: skip
SHOPS = (
    "bakery", "library", "school", "market", "museum", "mill", "inn", "post office", "book shop", "toy shop",
    "tea room",
    "fish shop", "garden", "swimming pool", "farm shop", "town hall", "workshop", "harbour office", "cheese shop",
    "bank",
    "theatre", "church", "railway station", "sweet shop", "shoe shop", "lighthouse", "castle", "hospital",
)  # fmt: skip
# Each job with what the person does, so that "Who is the baker?" and "Who bakes the bread?" are one question.
JOBS = (
    "baker|bakes the bread", "lighthouse keeper|looks after the lighthouse", "teacher|teaches the children",
    "doctor|helps the sick people", "miller|runs the mill", "postman|brings the letters",
    "gardener|looks after the garden",
    "cook|cooks the soup", "captain|steers the ship", "farmer|works on the farm", "mayor|leads the town",
    "fisherman|catches the fish", "librarian|lends the books", "blacksmith|works with iron",
    "carpenter|builds the tables",
    "tailor|makes the coats", "shepherd|watches the sheep", "clock maker|repairs the clocks", "singer|sings the songs",
    "bell ringer|rings the bell", "ferry man|drives the ferry", "innkeeper|runs the inn", "painter|paints the pictures",
    "bee keeper|keeps the bees", "boat builder|builds the boats", "cheese maker|makes the cheese",
    "judge|settles quarrels",
    "drummer|plays the drum", "cleaner|sweeps the street", "guard|guards the gate", "pilot|flies the plane",
    "candle maker|makes the candles", "fiddler|plays the fiddle", "watchman|watches the harbour",
    "weaver|weaves the carpets", "dentist|looks after the teeth", "potter|makes the pots", "barber|cuts the hair",
)  # fmt: skip
PLACES = (
    "on the hill", "by the river", "in the forest", "near the harbour", "behind the school", "at the end of the road",
    "under the old oak", "beside the lake", "in the middle of the village", "on the beach", "next to the mill",
    "across the bridge", "in the garden", "below the tower", "on the north side of the island", "in the cellar",
    "in front of the town hall", "on top of the tower", "between two rocks", "in a small boat", "behind the bakery",
    "under the bed", "on the west beach", "at the foot of the mountain", "inside the lighthouse", "near the well",
    "in an old ship", "on the roof", "on the roof of the town hall", "in the attic", "at the crossing", "in a cave",
    "inside the wall", "on the third floor", "behind the waterfall",
)  # fmt: skip
HOURS = ("five", "six", "seven", "eight", "nine", "ten", "eleven", "one", "two", "three", "four")
TIMES = (
    tuple(f"{h} o'clock" for h in HOURS)
    + tuple(f"half past {h}" for h in HOURS)
    + ("noon", "midnight", "sunrise", "sunset")
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
    "spring", "summer", "autumn", "winter",
)  # fmt: skip
NUMBERS = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "one hundred",
    "twenty-two", "thirty-five", "forty-one", "sixty-three", "fifty-seven", "eighty-four", "ninety-nine", "two hundred",
    "one hundred and three", "nineteen", "seventeen", "eighteen", "thirty-eight", "seventy-six",
    "one hundred and twelve", "four hundred", "a thousand",
)  # fmt: skip
HOBBIES = (
    "painting", "fishing", "swimming", "singing", "dancing", "reading", "cooking", "climbing trees",
    "playing the flute",
    "collecting shells", "flying kites", "telling stories", "growing roses", "watching birds", "playing chess",
    "knitting",
    "playing the drum", "collecting stamps", "counting stars", "carving wood", "writing letters", "rowing",
    "juggling", "skating", "baking", "drawing maps", "sailing", "sewing", "whistling", "solving riddles",
)  # fmt: skip
FEARS = (
    "the dark", "thunder", "big dogs", "spiders", "deep water", "loud noises", "ghosts", "mice", "high places", "geese",
    "snakes", "storms", "fog", "bees", "the sea", "cold water", "the wind",
    "crabs", "mirrors", "wolves", "the doctor", "goats", "fire", "heights",
)  # fmt: skip
EVENTS = (
    "lantern festival", "boat race", "harvest feast", "kite day", "summer fair", "music night", "snow ball",
    "fish market",
    "flower parade", "big dance", "story evening", "apple feast", "pancake race", "school play", "village meeting",
    "cheese fair", "lamp night", "sheep show", "song contest", "egg hunt", "duck race",
)  # fmt: skip
VEHICLES = (
    "ferry",
    "train",
    "bus",
    "mail boat",
    "coach",
    "milk cart",
    "steam ship",
    "night train",
    "school bus",
    "supply ship",
    "tram", "fishing boat", "balloon", "post coach",
)  # fmt: skip
FINDS = (
    "a gold ring", "an old map", "a letter", "a blue shell", "a silver key", "a small boat", "a bottle", "a wooden box",
    "a bag of coins", "a white feather", "a broken clock", "a strange egg", "a green stone", "a brass horn",
    "a red hat",
    "a wheel", "a black pearl", "a rusty anchor", "a glass ball", "a drum", "a small whistle",
)  # fmt: skip
KIN = (
    "brother",
    "sister",
    "mother",
    "father",
    "uncle",
    "aunt",
    "cousin",
    "grandmother",
    "grandfather",
    "best friend",
    "neighbour",
)

_STARTS = (
    "b br c d dr f fl g gr h j k l m n p pr r s st t th tr v w z sh bl cl al el or an is ch wh cr sw sp sc gl pl str "
    "qu y kn wr ab ed ig od um ev ac op ur by ty ru du mo ha ne fo"
)
_MIDDLES = "a e i o u a e i o u ai ea ee oa ie oo ou ay y"
_LINKS = (
    "l ll n nn r rr m mm d dd t tt s ss v b bb ck nd rl lm st rn mb rt lv ng nk sk ft ch sh th mp nt ld dr x zz ff gg "
    "pp nch rch tch c f g h j k p w z ct pt xt wn ws gh ph"
)
_STOPS = "n nn m t ss ck rn sk p ll x b d g k l r s th sh ch ft ld mp nt rd w z ff y"
_ENDS = (
    "a o y ie en in on er ie el a us ick et ot ey ow is an ell ock am ett iss ard ess ing ert ale ow ush op il ud ah "
    "ix um ol ap eg ub if ag oz ive ore ate ish ant"
)
_TOWNS = (
    "ford wick holm bury ton dale mouth stead field haven moor by pool gate ness cliff bay well rock land wood port "
    "hill brook bridge sand shore cross"
)


def _pick(rng: Random, pieces: str) -> str:
    return rng.choice(pieces.split())


def stem(rng: Random) -> str:
    """The first half of an invented name."""
    return _pick(rng, _STARTS) + _pick(rng, _MIDDLES) + _pick(rng, _LINKS)


def person(rng: Random) -> str:
    """An invented name for a person or an animal."""
    short = _pick(rng, _STARTS) + _pick(rng, _MIDDLES) + _pick(rng, _STOPS)
    kind = rng.random()
    if kind < 0.3:
        return short.capitalize()
    return (stem(rng) + (_pick(rng, _ENDS) if kind < 0.9 else stem(rng) + _pick(rng, _ENDS))).capitalize()


def town(rng: Random) -> str:
    """An invented name for a town, an island or a village."""
    return (stem(rng) + rng.choice(("", "", "a", "er")) + _pick(rng, _TOWNS)).capitalize()


def job(rng: Random) -> str:
    """A job without what it does."""
    return rng.choice(JOBS).split("|")[0]


def someone(rng: Random) -> str:
    """A person, by name or by job."""
    return person(rng) if rng.random() < 0.6 else f"the {job(rng)}"


def something(rng: Random) -> str:
    """A thing, plain, of a building or of a person."""
    kind = rng.random()
    if kind < 0.5:
        return f"the {rng.choice(THINGS)}"
    if kind < 0.75:
        return f"the {rng.choice(THINGS)} of the {rng.choice(SHOPS)}"
    return f"{someone(rng)}'s {rng.choice(THINGS)}"
