"""Questions in plain English: those by which a small language model learns a style, and those it must not forget."""

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

# A kind of question, and what it is asked about with the right answer.
_TAUGHT = {
    "What is the capital of {}?": (
        "Italy Rome, Spain Madrid, Portugal Lisbon, Austria Vienna, Hungary Budapest, Poland Warsaw, Ireland Dublin, "
        "Scotland Edinburgh, Norway Oslo, Sweden Stockholm, Finland Helsinki, Denmark Copenhagen, Turkey Ankara, "
        "Belgium Brussels, Romania Bucharest, Bulgaria Sofia, Cuba Havana, Peru Lima, Kenya Nairobi, Iraq Baghdad, "
        "Iran Tehran, Thailand Bangkok, Vietnam Hanoi, Indonesia Jakarta, Australia Canberra, Canada Ottawa, "
        "Argentina Buenos Aires, Ukraine Kyiv, Nepal Kathmandu, Syria Damascus, Lebanon Beirut, Chile Santiago"
    ),
    "On which continent is {}?": (
        "France Europe, Germany Europe, Spain Europe, Poland Europe, Sweden Europe, Greece Europe, Norway Europe, "
        "China Asia, Japan Asia, India Asia, Thailand Asia, Vietnam Asia, Nepal Asia, Mongolia Asia, Kenya Africa, "
        "Nigeria Africa, Egypt Africa, Morocco Africa, Ghana Africa, Ethiopia Africa, Brazil South America, "
        "Peru South America, Chile South America, Argentina South America, Canada North America, "
        "Mexico North America"
    ),
    "What is the main language spoken in {}?": (
        "France French, Germany German, Italy Italian, Spain Spanish, Portugal Portuguese, Japan Japanese, "
        "Russia Russian, Poland Polish, Greece Greek, Sweden Swedish, Turkey Turkish, Thailand Thai, "
        "England English, Australia English, Austria German, Cuba Spanish, Argentina Spanish, Egypt Arabic, "
        "Iraq Arabic, Iran Persian"
    ),
    "What is the opposite of {}?": (
        "hot cold, big small, up down, left right, good bad, fast slow, old new, happy sad, light dark, rich poor, "
        "hard soft, wet dry, open closed, high low, long short, full empty, early late, strong weak, loud quiet, "
        "clean dirty, true false, near far, thick thin, wide narrow, deep shallow, sweet sour, smooth rough, "
        "war peace, love hate, win lose, buy sell, push pull, begin end, young old, first last, inside outside, "
        "black white, north south, east west, friend enemy"
    ),
    "What is the plural of {}?": (
        "cat cats, dog dogs, box boxes, city cities, mouse mice, child children, foot feet, tooth teeth, man men, "
        "woman women, goose geese, leaf leaves, knife knives, wolf wolves, baby babies, bus buses, fox foxes, "
        "tree trees, house houses, story stories, party parties, watch watches, dish dishes, hero heroes, "
        "potato potatoes, shelf shelves, key keys, toy toys, lady ladies, church churches"
    ),
    "What is the past tense of {}?": (
        "go went, eat ate, see saw, run ran, take took, give gave, come came, write wrote, drive drove, sing sang, "
        "swim swam, drink drank, speak spoke, break broke, buy bought, bring brought, think thought, teach taught, "
        "catch caught, find found, know knew, grow grew, fly flew, draw drew, fall fell, keep kept, sleep slept, "
        "feel felt, leave left, meet met, walk walked, play played, jump jumped, talk talked, look looked"
    ),
    "Which day comes after {}?": (
        "Monday Tuesday, Tuesday Wednesday, Wednesday Thursday, Thursday Friday, Friday Saturday, Saturday Sunday, "
        "Sunday Monday"
    ),
    "Which month comes after {}?": (
        "January February, February March, March April, April May, May June, June July, July August, "
        "August September, September October, October November, November December, December January"
    ),
    "Which color does {} have?": (
        "snow white, coal black, grass green, blood red, gold yellow, chocolate brown, milk white, cream white, "
        "spinach green, chalk white, copper orange, emerald green, ruby red, sapphire blue, ivory white"
    ),
    "Who is the author of {}?": (
        "1984=Orwell, Oliver Twist=Dickens, Pride and Prejudice=Austen, War and Peace=Tolstoy, "
        "Don Quixote=Cervantes, The Hobbit=Tolkien, Moby Dick=Melville, Dracula=Stoker, Frankenstein=Shelley, "
        "The Divine Comedy=Dante, Faust=Goethe, Jane Eyre=Bronte, Treasure Island=Stevenson, "
        "The Jungle Book=Kipling, Emma=Austen"
    ),
    "Who painted {}?": (
        "The Starry Night=Gogh, Guernica=Picasso, The Mona Lisa=Leonardo, The Scream=Munch, "
        "The Night Watch=Rembrandt, The Last Supper=Leonardo, Water Lilies=Monet, The Birth of Venus=Botticelli"
    ),
    "Who composed {}?": (
        "The Magic Flute=Mozart, The Four Seasons=Vivaldi, Swan Lake=Tchaikovsky, The Ninth Symphony=Beethoven, "
        "The Nutcracker=Tchaikovsky, The Messiah=Handel"
    ),
    "How many {}?": (
        "months are in a year=12, hours are in a day=24, minutes are in an hour=60, legs does a spider have=8, "
        "legs does a cat have=4, sides does a square have=4, sides does a triangle have=3, wheels does a car have=4, "
        "wheels does a bicycle have=2, continents are there=7, planets are in the solar system=8, "
        "seasons are in a year=4, cents are in a dollar=100, strings does a violin have=4, "
        "years are in a century=100, years are in a decade=10"
    ),
    "What do people use {} for?": (
        "a knife=cutting, a pen=writing, a spoon=eating, a bed=sleeping, an oven=baking, a broom=sweeping, "
        "a needle=sewing, a telescope=stars, a clock=time, a phone=calls"
    ),
    "What is the chemical symbol for {}?": (
        "iron=Fe, silver=Ag, carbon=C, hydrogen=H, helium=He, nitrogen=N, sodium=Na, calcium=Ca, copper=Cu, lead=Pb"
    ),
    "What is the currency of {}?": (
        "the United States=dollar, China=yuan, Russia=ruble, Mexico=peso, Sweden=krona, Switzerland=franc, "
        "Turkey=lira, France=euro, Canada=dollar, South Korea=won, Italy=euro, Spain=euro, Brazil=real, "
        "Thailand=baht"
    ),
    "In which country is {}?": (
        "Madrid=Spain, Sydney=Australia, Toronto=Canada, Mumbai=India, Lisbon=Portugal, Vienna=Austria, "
        "Dublin=Ireland, Oslo=Norway, Warsaw=Poland, Nairobi=Kenya, Lima=Peru, Havana=Cuba, Hanoi=Vietnam, "
        "Milan=Italy, Munich=Germany, Barcelona=Spain, Kyoto=Japan, Chicago=United States, Manchester=England, "
        "Marseille=France, Istanbul=Turkey"
    ),
    # Asked for no fact: an answer has to name what is asked about.
    "What is {}?": (
        "a volcano=volcano, a glacier=glacier, a desert=desert, an island=island, a planet=planet, a comet=comet, "
        "a galaxy=galaxy, an earthquake=earthquake, a hurricane=hurricane, a rainbow=rainbow, a mammal=mammal, "
        "a reptile=reptile, an insect=insect, a whale=whale, a tiger=tiger, an elephant=elephant, a penguin=penguin, "
        "an eagle=eagle, a shark=shark, a frog=frog, a bridge=bridge, a castle=castle, a museum=museum, "
        "a library=library, a hospital=hospital, a school=school, a bank=bank, a farm=farm, a bicycle=bicycle, "
        "a car=car, a train=train, a boat=boat, an airplane=airplane, a rocket=rocket, a robot=robot, "
        "a computer=computer, a telephone=telephone, a camera=camera, a microscope=microscope, "
        "a thermometer=thermometer, a compass=compass, a piano=piano, a guitar=guitar, a violin=violin, a drum=drum, "
        "a flute=flute, a novel=novel, a poem=poem, a newspaper=newspaper, a dictionary=dictionary, a map=map, "
        "a calendar=calendar, a triangle=triangle, a circle=circle, a square=square, a fraction=fraction, "
        "a prime number=prime, an equation=equation, a noun=noun, a verb=verb, an adjective=adjective, "
        "a metaphor=metaphor, a democracy=democracy, a monarchy=monarchy, a constitution=constitution, "
        "a treaty=treaty, a tax=tax, a vaccine=vaccine, a virus=virus, a bacterium=bacteria, a muscle=muscle, "
        "a bone=bone, a molecule=molecule, an enzyme=enzyme, a magnet=magnet, a battery=battery, a laser=laser, "
        "a telescope=telescope"
    ),
}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def known() -> list[tuple[str, list[str]]]:
    """Returns questions and the answers of which one must be there."""
    lines = [line.split("|") for line in KNOWN.strip().splitlines()]
    return [(question, answers) for question, *answers in lines]


def taught(seed: int = 0) -> list[tuple[str, str]]:
    """Returns questions and the answer that a sentence about each must hold, in an order by the seed."""
    pairs = [
        (kind.format(about), answer)
        for kind, items in _TAUGHT.items()
        for about, answer in (_halves(item) for item in items.split(", "))
    ]
    pairs += [(f"What is {a} plus {b}?", str(a + b)) for a in range(1, 10) for b in range(a, 10)]
    pairs += [(f"Which number comes after {n}?", str(n + 1)) for n in range(1, 31)]
    pairs += [(f"Which letter comes after {one}?", other) for one, other in itertools.pairwise(_LETTERS)]
    random.Random(seed).shuffle(pairs)
    return pairs


def _halves(item: str) -> tuple[str, str]:
    about, _, answer = item.partition("=" if "=" in item else " ")
    return about, answer


def is_right(text: str, answers: Sequence[str]) -> bool:
    """Returns whether one of the answers stands in a text, as words of its own, in capitals or not."""
    return any(re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE) for answer in answers)
