"""Questions in plain English with short answers: what a small language model is taught, asked, and must not forget."""

import itertools
import random
import re
from collections.abc import Sequence

# What SmolLM2-135M-Instruct (Q4_1) answers right as it comes, in its chat template; chosen before anything was trained.
KNOWN = """
What is the capital of France?|Paris
What is the capital of Japan?|Tokyo
What is the capital of Germany?|Berlin
What is the capital of England?|London
What is the capital of Russia?|Moscow
What is the capital of China?|Beijing
What is the capital of Egypt?|Cairo
What is the capital of Greece?|Athens
Which planet is known as the Red Planet?|Mars
What is the name of our galaxy?|Milky Way
What star is at the center of our solar system?|Sun
What is the chemical formula of water?|H2O
What is the chemical symbol for gold?|Au
What is the chemical symbol for oxygen?|O
Who wrote Romeo and Juliet?|Shakespeare
Who discovered penicillin?|Fleming
Who developed the theory of relativity?|Einstein
Who was the first person to walk on the Moon?|Armstrong
Who invented the telephone?|Bell
What is the largest ocean on Earth?|Pacific
What is the tallest mountain in the world?|Everest
What is the longest river in Africa?|Nile
What is the largest desert in the world?|Sahara
What is the largest animal on Earth?|whale
How many days are in a week?|7|seven
How many seconds are in a minute?|60|sixty
How many sides does a hexagon have?|6|six
How many letters are in the English alphabet?|26
In which city is the Eiffel Tower?|Paris
In which country are the pyramids of Giza?|Egypt
In which city is the Colosseum?|Rome
In which country is Mount Fuji?|Japan
What is the currency of Japan?|yen
What is the currency of the United Kingdom?|pound
What is the currency of India?|rupee
What is the currency of Germany?|euro
What organ do we use to think?|brain
What force pulls objects toward the Earth?|gravity
What is the center of an atom called?|nucleus
What is the study of living things called?|biology
What is the main language spoken in Brazil?|Portuguese
What is the main language spoken in Mexico?|Spanish
What is the boiling point of water in degrees Celsius?|100
What instrument has 88 keys?|piano
Who is the author of The Odyssey?|Homer
Who was the first emperor of Rome?|Augustus
What molecule carries genetic information?|DNA
What is the opposite of day?|night
"""

# A kind of question, the sentence that answers it, and what it is asked about with its answer.
_TAUGHT = {
    ("What is the capital of {}?", "The capital of {} is {}."): (
        "Italy Rome, Spain Madrid, Portugal Lisbon, Austria Vienna, Hungary Budapest, Poland Warsaw, Ireland Dublin, "
        "Scotland Edinburgh, Norway Oslo, Sweden Stockholm, Finland Helsinki, Denmark Copenhagen, Turkey Ankara, "
        "Belgium Brussels, Romania Bucharest, Bulgaria Sofia, Cuba Havana, Peru Lima, Kenya Nairobi, Iraq Baghdad, "
        "Iran Tehran, Thailand Bangkok, Vietnam Hanoi, Indonesia Jakarta, Australia Canberra, Canada Ottawa, "
        "Argentina Buenos Aires, Ukraine Kyiv, Nepal Kathmandu, Syria Damascus, Lebanon Beirut, Chile Santiago"
    ),
    ("On which continent is {}?", "{} is on the continent of {}."): (
        "France Europe, Germany Europe, Spain Europe, Poland Europe, Sweden Europe, Greece Europe, Norway Europe, "
        "China Asia, Japan Asia, India Asia, Thailand Asia, Vietnam Asia, Nepal Asia, Mongolia Asia, Kenya Africa, "
        "Nigeria Africa, Egypt Africa, Morocco Africa, Ghana Africa, Ethiopia Africa, Brazil South America, "
        "Peru South America, Chile South America, Argentina South America, Canada North America, Mexico North America"
    ),
    ("What is the main language spoken in {}?", "The main language spoken in {} is {}."): (
        "France French, Germany German, Italy Italian, Spain Spanish, Portugal Portuguese, Japan Japanese, "
        "Russia Russian, Poland Polish, Greece Greek, Sweden Swedish, Turkey Turkish, Thailand Thai, England English, "
        "Australia English, Austria German, Cuba Spanish, Argentina Spanish, Egypt Arabic, Iraq Arabic, Iran Persian"
    ),
    ("What is the opposite of {}?", "The opposite of {} is {}."): (
        "hot cold, big small, up down, left right, good bad, fast slow, old new, happy sad, light dark, rich poor, "
        "hard soft, wet dry, open closed, high low, long short, full empty, early late, strong weak, loud quiet, "
        "clean dirty, true false, near far, thick thin, wide narrow, deep shallow, sweet sour, smooth rough, "
        "war peace, love hate, win lose, buy sell, push pull, begin end, young old, first last, inside outside, "
        "black white, north south, east west, friend enemy"
    ),
    ("What is the plural of {}?", "The plural of {} is {}."): (
        "cat cats, dog dogs, box boxes, city cities, mouse mice, child children, foot feet, tooth teeth, man men, "
        "woman women, goose geese, leaf leaves, knife knives, wolf wolves, baby babies, bus buses, fox foxes, "
        "tree trees, house houses, story stories, party parties, watch watches, dish dishes, hero heroes, "
        "potato potatoes, shelf shelves, key keys, toy toys, lady ladies, church churches"
    ),
    ("What is the past tense of {}?", "The past tense of {} is {}."): (
        "go went, eat ate, see saw, run ran, take took, give gave, come came, write wrote, drive drove, sing sang, "
        "swim swam, drink drank, speak spoke, break broke, buy bought, bring brought, think thought, teach taught, "
        "catch caught, find found, know knew, grow grew, fly flew, draw drew, fall fell, keep kept, sleep slept, "
        "feel felt, leave left, meet met, walk walked, play played, jump jumped, talk talked, look looked"
    ),
    ("Which day comes after {}?", "The day after {} is {}."): (
        "Monday Tuesday, Tuesday Wednesday, Wednesday Thursday, Thursday Friday, Friday Saturday, Saturday Sunday, "
        "Sunday Monday"
    ),
    ("Which month comes after {}?", "The month after {} is {}."): (
        "January February, February March, March April, April May, May June, June July, July August, August September, "
        "September October, October November, November December, December January"
    ),
    ("Which color does {} have?", "The color of {} is {}."): (
        "snow white, coal black, grass green, blood red, gold yellow, chocolate brown, milk white, cream white, "
        "spinach green, chalk white, copper orange, emerald green, ruby red, sapphire blue, ivory white"
    ),
    ("Who is the author of {}?", "The author of {} is {}."): (
        "1984=George Orwell, Oliver Twist=Charles Dickens, Pride and Prejudice=Jane Austen, War and Peace=Leo Tolstoy, "
        "Don Quixote=Miguel de Cervantes, The Hobbit=J.R.R. Tolkien, Moby Dick=Herman Melville, Dracula=Bram Stoker, "
        "Frankenstein=Mary Shelley, The Divine Comedy=Dante Alighieri, Faust=Goethe, Jane Eyre=Charlotte Bronte, "
        "Treasure Island=Robert Louis Stevenson, The Jungle Book=Rudyard Kipling, Emma=Jane Austen"
    ),
    ("Who painted {}?", "{} was painted by {}."): (
        "The Starry Night=Vincent van Gogh, Guernica=Pablo Picasso, The Mona Lisa=Leonardo da Vinci, "
        "The Scream=Edvard Munch, The Night Watch=Rembrandt, The Last Supper=Leonardo da Vinci"
    ),
    ("Who composed {}?", "{} was composed by {}."): (
        "The Magic Flute=Mozart, The Four Seasons=Antonio Vivaldi, Swan Lake=Tchaikovsky, "
        "The Ninth Symphony=Beethoven, The Nutcracker=Tchaikovsky, The Messiah=George Frideric Handel"
    ),
    ("How many {}?", "There are {1}."): (
        "months are in a year=12 months in a year, hours are in a day=24 hours in a day, "
        "minutes are in an hour=60 minutes in an hour, legs does a spider have=8 legs on a spider, "
        "legs does a cat have=4 legs on a cat, sides does a square have=4 sides on a square, "
        "sides does a triangle have=3 sides on a triangle, fingers are on one hand=5 fingers on one hand, "
        "wheels does a bicycle have=2 wheels on a bicycle, wheels does a car have=4 wheels on a car, "
        "continents are there=7 continents, planets are in the solar system=8 planets in the solar system, "
        "seasons are in a year=4 seasons in a year, cents are in a dollar=100 cents in a dollar, "
        "strings does a violin have=4 strings on a violin, years are in a century=100 years in a century, "
        "years are in a decade=10 years in a decade, eyes does a person have=2 eyes on a person"
    ),
    ("What do you call {}?", "You call {} {}."): (
        "a baby dog=a puppy, a baby cat=a kitten, a baby cow=a calf, a baby sheep=a lamb, a baby horse=a foal, "
        "a baby duck=a duckling, a female lion=a lioness, a person who bakes bread=a baker, "
        "a person who flies a plane=a pilot, a person who teaches=a teacher, a group of wolves=a pack, "
        "frozen water=ice, the sister of a mother=an aunt, the son of a king=a prince, "
        "a shape with three sides=a triangle"
    ),
    ("What do people use {} for?", "People use {} for {}."): (
        "a knife=cutting, a pen=writing, a spoon=eating, a bed=sleeping, an oven=baking, a broom=sweeping, "
        "a needle=sewing, a telescope=looking at the stars, a clock=telling the time, a phone=calling"
    ),
    ("What is the chemical symbol for {}?", "The chemical symbol for {} is {}."): (
        "iron=Fe, silver=Ag, carbon=C, hydrogen=H, helium=He, nitrogen=N, sodium=Na, calcium=Ca, copper=Cu, lead=Pb"
    ),
    ("What is the currency of {}?", "The currency of {} is {}."): (
        "the United States=the dollar, China=the yuan, Russia=the ruble, Mexico=the peso, Sweden=the krona, "
        "Switzerland=the franc, Turkey=the lira, France=the euro, Canada=the dollar, South Korea=the won"
    ),
}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Pair = tuple[str, str]


def known() -> list[tuple[str, list[str]]]:
    """Returns questions and the answers of which one must be there."""
    lines = [line.split("|") for line in KNOWN.strip().splitlines()]
    return [(question, answers) for question, *answers in lines]


def taught(seed: int = 0, held_out: int = 100) -> tuple[list[Pair], list[Pair]]:
    """Returns questions with the sentences that answer them: to teach, and of the same kinds to hold back.

    The seed chooses which, and their order.
    """
    listed = [(*kind, *_halves(item)) for kind, items in _TAUGHT.items() for item in items.split(", ")]
    listed += [
        ("What is {} plus " + f"{b}?", "{} plus " + f"{b}" + " is {}.", str(a), str(a + b))
        for a in range(1, 10)
        for b in range(a, 10)
    ]
    listed += [("Which number comes after {}?", "The number after {} is {}.", str(n), str(n + 1)) for n in range(1, 31)]
    letters = itertools.pairwise(_LETTERS)
    listed += [("Which letter comes after {}?", "The letter after {} is {}.", one, other) for one, other in letters]
    found = [(question.format(about), sentence.format(about, answer)) for question, sentence, about, answer in listed]
    random.Random(seed).shuffle(found)
    return found[held_out:], found[:held_out]


def _halves(item: str) -> tuple[str, str]:
    about, _, answer = item.partition("=" if "=" in item else " ")
    return about, answer


def is_right(text: str, answers: Sequence[str]) -> bool:
    """Returns whether one of the answers stands in a text, as words of its own, in capitals or not."""
    return any(re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE) for answer in answers)
