"""How VQA v2 makes answers comparable before it counts matches (visualqa.org/evaluation.html).

The rules are those of the official evaluation code, oddities included: scores are only comparable with published ones
where every answer is treated alike.
"""

import re

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_WITH_COMMA = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")  # one that no digit follows
_MOST_STOPS = 32  # the official code hands re.UNICODE, 32, over as the number of replacements
_ARTICLES = frozenset(["a", "an", "the"])
_NUMBERS = ("none zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

# Right form, then the forms that become it. "somebodyd" is the official table's; its entries in upper case (Im, Ive)
# are left out, as they are looked up after lower-casing and never found.
_CONTRACTIONS = """
    ain't:aint aren't:arent can't:cant could've:couldve couldn't:couldnt couldn't've:couldn'tve,couldnt've
    didn't:didnt doesn't:doesnt don't:dont hadn't:hadnt hadn't've:hadnt've,hadn'tve hasn't:hasnt haven't:havent
    he'd:hed he'd've:hed've,he'dve he's:hes how'd:howd how'll:howll how's:hows isn't:isnt it'd:itd
    it'd've:itd've,it'dve it'll:itll ma'am:maam might've:mightve mightn't:mightnt mightn't've:mightnt've,mightn'tve
    must've:mustve mustn't:mustnt needn't:neednt not've:notve o'clock:oclock oughtn't:oughtnt
    'ow's'at:ow's'at,'ows'at,'ow'sat shan't:shant she'd've:shed've,she'dve should've:shouldve shouldn't:shouldnt
    shouldn't've:shouldnt've,shouldn'tve somebody'd've:somebodyd've,somebody'dve somebody'll:somebodyll
    somebody's:somebodys somebodyd:somebody'd someone'd:someoned someone'd've:someoned've,someone'dve
    someone'll:someonell someone's:someones something'd:somethingd something'd've:somethingd've,something'dve
    something'll:somethingll that's:thats there'd:thered there'd've:thered've,there'dve there're:therere
    there's:theres they'd:theyd they'd've:theyd've,they'dve they'll:theyll they're:theyre they've:theyve 'twas:twas
    wasn't:wasnt we'd've:wed've,we'dve we've:weve weren't:werent what'll:whatll what're:whatre what's:whats
    what've:whatve when's:whens where'd:whered where's:wheres where've:whereve who'd:whod who'd've:whod've,who'dve
    who'll:wholl who's:whos who've:whove why'll:whyll why're:whyre why's:whys won't:wont would've:wouldve
    wouldn't:wouldnt wouldn't've:wouldnt've,wouldn'tve y'all:yall y'all'd've:yall'd've,y'alld've,y'all'dve
    y'all'll:yall'll,y'allll you'd:youd you'd've:youd've,you'dve you'll:youll you're:youre you've:youve
"""


def _replacements() -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in _CONTRACTIONS.split():
        right, _, forms = entry.partition(":")
        found |= dict.fromkeys(forms.split(","), right)
    return found | {word: str(number) for number, words in enumerate(_NUMBERS) for word in words.split()}


_REPLACEMENTS = _replacements()


def spaced(answer: str) -> str:
    """Returns an answer with newlines and tabs as spaces, and none at its ends: what is done to every answer."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def normalised(answer: str) -> str:
    """Returns an answer as it is compared where the human answers differ.

    A punctuation mark is dropped where it stands next to a space somewhere in the answer, or where the answer has a
    number with a comma; otherwise it becomes a space. Full stops go, but not before a digit. Then words are
    lower-cased, articles dropped, the numbers none to ten written in digits, and apostrophes put into contractions.

    >>> normalised("The two-door car, isnt it?")
    "2 door car isn't it"

    Args:
        answer: As `spaced` returns it.
    """
    text = _unpunctuated(answer)
    words = (word for word in text.lower().split() if word not in _ARTICLES)
    return " ".join(_REPLACEMENTS.get(word, word) for word in words)


def _unpunctuated(answer: str) -> str:
    has_number = _NUMBER_WITH_COMMA.search(answer) is not None
    marks = {
        ord(mark): "" if has_number or f"{mark} " in answer or f" {mark}" in answer else " " for mark in _PUNCTUATION
    }
    return _FULL_STOP.sub("", answer.translate(marks), count=_MOST_STOPS)
