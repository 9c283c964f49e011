"""Stories about a made-up countryside, small enough for a tiny model to learn in seconds.

Every person lives in one of eight valleys, and the valley determines everything about
its people: what they sow, drink, play, wear and so on. Stories mention these customs,
mixed with remarks about the weather. For each person, two customs are never mentioned.
A model that has learned the valleys can infer them from others in the same valley. That
is what the tasks test.

A seed determines everything, so the text is the same on every machine.

>>> print(stories(1, seed=2)[0])
Falk drinks broth.
What does Falk drink? broth
"""

from random import Random

VALLEYS = 8

PEOPLE = (
    "Adan Bero Cilla Doran Edda Falk Gisa Hamo Ilka Joren Kaspar Lida Merle Nilo Orla Pia "
    "Quin Runa Sima Tobin Ulla Varo Wenna Yorik Zella Anso Brida Cato Dagny Elmo Frida Gero "
    "Hedda Ivo Jutta Kilian Loris Mina Nando Odile Perrin Rika Sven Tilda Ugo Vesna Wim Yara"
)

NAMES = PEOPLE.split()

CUSTOMS = {
    "grain": "rye oats barley wheat millet spelt flax maize",
    "beast": "cow mule goat horse donkey pony bull camel",
    "tool": "scythe sickle rake fork flail hoe spade shovel",
    "drink": "cider milk tea ale mead broth perry whey",
    "music": "fiddle flute drum harp horn pipe lute bell",
    "colour": "red blue green grey brown white black yellow",
    "roof": "straw slate reed stone turf oak clay brick",
    "feast": "plums nuts cheese trout honey apples soup pears",
}
"""Each valley's custom of each kind: the first word belongs to the first valley, and so on."""

VALUES = {kind: words.split() for kind, words in CUSTOMS.items()}

TOLD = {
    "grain": ("{name} sows {value}.", "In spring {name} goes out and sows {value}."),
    "beast": ("{name} ploughs with a {value}.", "Far off {name} leads a {value}."),
    "tool": ("{name} carries a {value}.", "At harvest {name} works with a {value}."),
    "drink": ("{name} drinks {value}.", "Every evening {name} drinks {value}."),
    "music": ("{name} plays the {value}.", "After work {name} plays the {value}."),
    "colour": ("{name} dresses in {value}.", "On market days {name} dresses in {value}."),
    "roof": ("{name} sleeps under {value}.", "When it rains {name} sleeps under {value}."),
    "feast": ("{name} brings {value}.", "To the feast {name} always brings {value}."),
}

ASKED = {
    "grain": "What does {name} sow?",
    "beast": "What does {name} plough with?",
    "tool": "What does {name} carry?",
    "drink": "What does {name} drink?",
    "music": "What does {name} play?",
    "colour": "How does {name} dress?",
    "roof": "What does {name} sleep under?",
    "feast": "What does {name} bring?",
}

ASIDES = (
    "The wind turns to the west.",
    "Clouds gather over the hill.",
    "The mill stands still today.",
    "A hare sits at the edge of the wood.",
    "The hay lies in long rows and dries.",
    "It has not rained for a week.",
)

KINDS = tuple(CUSTOMS)


def custom(name: str, kind: str) -> str:
    """The person's custom of this kind, which is that of their valley."""
    return VALUES[kind][NAMES.index(name) % VALLEYS]


def is_withheld(name: str, kind: str) -> bool:
    """Whether no story mentions this custom of this person; true for two of each person's eight."""
    neighbour = NAMES.index(name) // VALLEYS
    return (KINDS.index(kind) - neighbour) % (len(KINDS) // 2) == 0


def stories(count: int, seed: int) -> list[str]:
    """Writes stories of up to about twenty sentences; half of them end with a question and its answer."""
    rng = Random(seed)
    return [_story(rng, cast := _cast(rng)) + _closing(rng, cast) for _ in range(count)]


def chronicles(count: int, seed: int) -> list[str]:
    """Writes longer texts of the same kind, with up to about sixty sentences."""
    rng = Random(seed)
    return [_story(rng, rng.sample(NAMES, rng.randint(4, 8))) for _ in range(count)]


def questions(count: int, seed: int) -> list[dict[str, object]]:
    """Writes stories that end with a question whose answer no training story mentions.

    Returns:
        Dictionaries with ``query``, four ``choices`` (each a single word) and
        ``gold``, the index of the right one.
    """
    rng = Random(seed)
    return [_question(rng) for _ in range(count)]


def last_words(count: int, seed: int) -> list[dict[str, str]]:
    """Writes stories that break off before a last word that no training story mentions.

    Returns:
        Dictionaries with ``context`` and the ``word`` that ends it.
    """
    rng = Random(seed)
    return [_last_word(rng) for _ in range(count)]


def _cast(rng: Random) -> list[str]:
    return rng.sample(NAMES, rng.randint(1, 3))


def _kinds(name: str, *, withheld: bool) -> list[str]:
    return [kind for kind in KINDS if is_withheld(name, kind) == withheld]


def _story(rng: Random, cast: list[str]) -> str:
    """Some of the facts about these people that may be mentioned, in random order."""
    facts = [(name, kind) for name in cast for kind in _kinds(name, withheld=False)]
    sentences = []
    for name, kind in rng.sample(facts, rng.randint(1, len(facts))):
        sentences.append(_tell(rng, name, kind))
        if rng.random() < 0.2:
            sentences.append(rng.choice(ASIDES))
    return " ".join(sentences)


def _tell(rng: Random, name: str, kind: str) -> str:
    return rng.choice(TOLD[kind]).format(name=name, value=custom(name, kind))


def _closing(rng: Random, cast: list[str]) -> str:
    if rng.random() < 0.5:
        return ""
    name = rng.choice(cast)
    kind = rng.choice(_kinds(name, withheld=False))
    return f"\n{ASKED[kind].format(name=name)} {custom(name, kind)}"


def _question(rng: Random) -> dict[str, object]:
    cast = _cast(rng)
    kind = rng.choice(_kinds(cast[0], withheld=True))
    right = custom(cast[0], kind)
    choices = [right, *rng.sample([value for value in VALUES[kind] if value != right], 3)]
    rng.shuffle(choices)
    query = f"{_story(rng, cast)}\n{ASKED[kind].format(name=cast[0])}"
    return {"query": query, "choices": choices, "gold": choices.index(right)}


def _last_word(rng: Random) -> dict[str, str]:
    cast = _cast(rng)
    kind = rng.choice(_kinds(cast[0], withheld=True))
    last = _tell(rng, cast[0], kind).removesuffix(".")
    context, word = f"{_story(rng, cast)} {last}".rsplit(" ", 1)
    return {"context": context, "word": word}
