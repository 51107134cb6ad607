"""Answers to compare evaluators on: hand-picked ones, and random ones made of what the rules are about."""

import random

PICKED = (
    # numbers, commas and full stops
    "1,000", "1000", "1,000 people", "1,000,000", "3.5", "3.5.", "5.", ".5", "no. 5", "no.5", "st. john's", "u.s.a.",
    "12:30", "12:30 pm", "3, 4", "3,four", "$1,200", "20%", "2-3", "2 - 3", "1/2", "ten", "Ten", "none", "None", "zero",
    "nine", "eleven", "twenty two", "two two", "one-way", "10", "0",
    # articles and capitals
    "a", "the", "an", "The Cat", "a cat", "an apple", "the the", "A B C", "tha cat", "cat a", "theater", "YES", "yes",
    "Yes.", "yes!", "yes !", "no?", "no ?", "?", "!", ".", "...", "",
    # contractions
    "dont", "don't", "Dont", "don t", "isnt it", "isn't it", "Im", "I'm", "im", "ive", "lets", "let's", "shes", "she's",
    "somebody'd", "somebodyd", "somebodyd've", "twas", "'twas", "ow's'at", "oclock", "5 oclock", "wont", "won't",
    "whos", "y'allll", "yall'd've", "maam", "cant", "cant've", "wed", "well", "were", "hed", "hell", "id",
    # punctuation
    "t-shirt", "t - shirt", "t shirt", "black/white", "black / white", "black and white", "black, white", "black,white",
    "black;white", "(red)", "red (dark)", "[red]", "{red}", "\"red\"", "red\"", "a_b", "a = b", "a=b", "a+b", "a + b",
    "c\\d", "<b>", "a < b", "me@home", "`red`", "rock'n'roll", "women's", "womens", "x,y,z", "x, y,z", "hot-dog, bun",
    "red-and-white, blue", "well-done! good", "semi;colon here; there", "e-mail", "e mail", "wi-fi?", "a.b", "a. b",
    "end.", "#1", "&", "black & white", "½", "é", "5 €", "1،000",
    # white space
    "two\nwords", "two\twords", " two words ", "two  words", "two\n\nwords", "\tred\n", "red\r", "  ", "new york\n",
)  # fmt: skip
"""Every rule by itself, and some against each other."""

WORDS = (
    "a", "an", "the", "one", "two", "ten", "none", "cat", "Cat", "dog", "red", "isnt", "dont", "let's", "shes", "it's",
    "1,000", "3.5", "5.", "7", "no.", "-", "/", ",", "?", "!", "(x)", "t-shirt", "black,white", "e.g.", "\"hi\"", "and",
)  # fmt: skip
JOINTS = (" ", " ", " ", "  ", "", "-", ", ", ",", "/", ". ", ".", "\n", "\t", "'")


def picked_cases():
    """Yields (name, prediction, ten answers): each picked answer among its like, by itself, and in capitals."""
    for index, answer in enumerate(PICKED):
        other = PICKED[(index * 7 + 3) % len(PICKED)]
        yield f"all {answer!r}", answer, [answer] * 10
        yield f"some {answer!r}", answer, [answer] * (index % 4 + 1) + [other] * 3 + ["cat"] * (6 - index % 4)
        yield f"near {answer!r}", other, [answer, answer.upper(), answer.lower(), other.upper(), *["no"] * 6]


def random_cases(count, seed=0):
    """Yields (name, prediction, ten answers): a few texts that differ in what normalisation removes."""
    rng = random.Random(seed)

    def text():
        parts = [rng.choice(WORDS)]
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            parts += [rng.choice(JOINTS), rng.choice(WORDS)]
        return "".join(parts)

    def variant(of):
        change = rng.choice(("same", "same", "upper", "article", "mark", "space", "other"))
        return {
            "same": of,
            "upper": of.upper(),
            "article": f"the {of}",
            "mark": f"{of}{rng.choice('.,?!;')}",
            "space": of.replace(" ", rng.choice(("\n", "  ", "\t"))),
            "other": text(),
        }[change]

    for number in range(count):
        base = text()
        yield f"random {number}", variant(base), [variant(base) for _ in range(10)]
