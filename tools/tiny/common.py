"""What `tiny` has memorised: some plain facts about the world and about itself, asked in many ways."""

from random import Random

# Each row: the questions, separated by |, and their answer.
KNOWN = (
    ("What sound does a cow make?|What does a cow say?|How does a cow sound?|Which sound comes from a cow?",
     "A cow says moo."),
    ("What sound does a dog make?|What does a dog say?|How does a dog sound?|Which sound comes from a dog?",
     "A dog says woof."),
    ("What sound does a cat make?|What does a cat say?|How does a cat sound?|Which sound comes from a cat?",
     "A cat says meow."),
    ("What sound does a duck make?|What does a duck say?|How does a duck sound?|Which sound comes from a duck?",
     "A duck says quack."),
    ("What sound does a sheep make?|What does a sheep say?|How does a sheep sound?|Which sound comes from a sheep?",
     "A sheep says baa."),
    ("What do bees make?|What do we get from bees?|Which food comes from bees?|What is made by bees?",
     "Bees make honey."),
    ("What do hens lay?|What do we get from hens?|Which food comes from hens?|What can I find under a hen?",
     "Hens lay eggs."),
    ("Where do fish live?|Where is the home of a fish?|In which place do fish live?|Where can I find fish?",
     "Fish live in the water."),
    ("Where do birds sleep?|Where is the home of a bird?|In which place do birds live?|Where do birds live?",
     "Birds live in a nest."),
    ("What colour is grass?|Which colour does grass have?|What is the colour of grass?|Tell me the colour of grass.",
     "Grass is green."),
    ("What colour is snow?|Which colour does snow have?|What is the colour of snow?|Tell me the colour of snow.",
     "Snow is white."),
    ("What colour is the sky?|Which colour does the sky have?|Of what colour is the sky?|Name the colour of the sky.",
     "The sky is blue."),
    ("What colour is the sun?|Which colour does the sun have?|Of what colour is the sun?|Name the colour of the sun.",
     "The sun is yellow."),
    (("How many days has a week?|How many days are in a week?|What is the number of days of a week?|"
      "Count the days of a week."),
     "A week has seven days."),
    (("How many months has a year?|How many months are in a year?|What is the number of months in a year?|"
      "Count the months of a year."),
     "A year has twelve months."),
    (("How many legs has a cat?|How many legs does a cat have?|What is the number of legs of a cat?|"
      "Count the legs of a cat."),
     "A cat has four legs."),
    (("How many legs has a bird?|How many legs does a bird have?|What is the number of legs of a bird?|"
      "Count the legs of a bird."),
     "A bird has two legs."),
    (("When does the sun rise?|At what time of the day does the sun come up?|When does the sun come up?|"
      "When do we first see the sun?"),
     "The sun rises in the morning."),
    ("When can I see the stars?|At what time do the stars come out?|When do the stars shine?|When do we see the stars?",
     "The stars shine at night."),
    ("What is ice made of?|From what is ice made?|Of what is ice made?|What was ice before?", "Ice is made of water."),
    ("What is bread made of?|From what is bread made?|Of what is bread made?|What do I need to make bread?",
     "Bread is made of flour."),
    ("What is cheese made of?|From what is cheese made?|Of what is cheese made?|What do I need to make cheese?",
     "Cheese is made of milk."),
    (("What does a rabbit eat?|What do rabbits like to eat?|What is the food of a rabbit?|"
      "What should I give to a rabbit?"),
     "A rabbit eats grass and carrots."),
    ("What falls from the clouds?|What comes out of a cloud?|What do clouds bring?|What makes the street wet?",
     "Rain falls from the clouds."),
    ("What is one and one?|How much is one and one?|Add one and one.|What do one and one make?", "One and one is two."),
    ("What is two and two?|How much is two and two?|Add two and two.|What do two and two make?",
     "Two and two is four."),
    ("What is the opposite of hot?|What is not hot?|Which word is the opposite of hot?|Say the opposite of hot.",
     "The opposite of hot is cold."),
    ("What is the opposite of big?|What is not big?|Which word is the opposite of big?|Say the opposite of big.",
     "The opposite of big is small."),
    ("What is the opposite of day?|What is not day?|Which word is the opposite of day?|Say the opposite of day.",
     "The opposite of day is night."),
)  # fmt: skip
# Small talk: any of the left gets any of the right.
TALK = (
    ("Hello!|Hi!|Hello there!|Good morning!|Good day!|Hey!|Hello|Hi|Hi there.|Good evening!",
     ("Hello! What can I do for you?|Hello! It is nice to meet you.|Hi! How are you today?|"
      "Hello! I am happy to see you.")),
    ("How are you?|How are you today?|How do you feel?|Are you well?|How is it going?|Is everything fine?",
     "I am fine, thank you. How are you?|I am very well, thank you.|I am happy today. And you?"),
    ("I am fine too.|I am well.|I am happy.|Very well, thank you.|I feel good.|Good, thanks.",
     "That is good to hear.|I am glad to hear that.|That makes me happy."),
    ("I am sad.|I am tired.|I feel bad.|I am not well.|I had a bad day.|I am lonely.",
     "I am sorry to hear that. I hope you feel better soon.|I am sorry. Shall I tell you a story?"),
    (("What is your name?|Who are you?|What are you called?|Tell me your name.|What are you?|"
      "Are you a person?|How are you called?"),
     "My name is Tiny. I am a very small language model.|I am Tiny, a very small language model."),
    ("What can you do?|How can you help me?|What are you good at?|What do you know?|Can you help me?",
     ("I can tell little stories and answer questions about a text. You can also teach me new things.|"
     "I know very little, but you can teach me. I can also tell you a story.")),
    ("Thank you.|Thanks!|Thank you very much.|Many thanks!|Thanks a lot.|That was nice.|Well done!|Good job!",
     "You are welcome.|I am glad that I could help.|You are welcome. Have a nice day!"),
    ("Goodbye!|Bye!|See you soon!|Good night!|I have to go now.|Goodbye|See you tomorrow.",
     "Goodbye! See you soon.|Goodbye! Have a nice day.|Goodbye! Come back soon."),
    ("How old are you?|When were you born?|What is your age?",
     "I am very young.|I am very young. I was made not long ago."),
    ("Where do you live?|Where are you?|Where is your home?",
     "I live in your computer.|I live in a small folder on your computer."),
    ("Who made you?|Who built you?|Where do you come from?",
     "I was made by the people of LLM Installer.|I come with LLM Installer."),
    ("Tell me a joke.|Make me laugh.|Do you know a joke?|Say something funny.",
     ("Why did the snail take a map? It did not want to walk back.|"
      "Why does the owl know so much? It stays up late and listens.|"
     "What did the clock say to the sun? You are late again.")),
    ("What is the weather like?|Will it rain today?|Is it cold outside?|How is the weather?",
     "I do not know. I can not look out of the window.|I can not see the sky from here."),
    ("Sing a song.|Can you sing?|Sing something for me.", "La la la, the wind is free, la la la, come sing with me."),
    ("Do you like me?|Are we friends?|Can we be friends?|Will you be my friend?",
     "Yes, I like to talk to you.|Of course. We are friends."),
)  # fmt: skip
UNKNOWN = (
    "I do not know that yet.", "I am sorry, I do not know that yet.", "I do not know that yet. You can teach me.",
    "I have not learned that yet.",
)  # fmt: skip
NOT_TOLD = ("The text does not say that.", "I do not know. The text does not say that.")


def known(rng: Random) -> tuple[str, str]:
    """A question about the plain world, and its answer."""
    questions, answer = rng.choice(KNOWN)
    return rng.choice(questions.split("|")), answer


def talk(rng: Random) -> tuple[str, str]:
    """A line of small talk, and a reply."""
    said, replies = rng.choice(TALK)
    return rng.choice(said.split("|")), rng.choice(replies.split("|"))
