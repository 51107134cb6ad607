"""The rules of VQA v2's evaluation (visualqa.org/evaluation.html), naively: a character and a word at a time."""

import itertools

DIGITS = "0123456789"
MARKS = list(';/[]"{}()=+\\_-><@`,?!')
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

# Contractions without some of their apostrophes, for each that the official table has.
CONTRACTIONS = """
aint=ain't arent=aren't cant=can't couldve=could've couldnt=couldn't couldn'tve=couldn't've couldnt've=couldn't've
didnt=didn't doesnt=doesn't dont=don't hadnt=hadn't hadnt've=hadn't've hadn'tve=hadn't've hasnt=hasn't havent=haven't
hed=he'd hed've=he'd've he'dve=he'd've hes=he's howd=how'd howll=how'll hows=how's isnt=isn't itd=it'd itd've=it'd've
it'dve=it'd've itll=it'll maam=ma'am mightnt=mightn't mightnt've=mightn't've mightn'tve=mightn't've mightve=might've
mustnt=mustn't mustve=must've neednt=needn't notve=not've oclock=o'clock oughtnt=oughtn't ow's'at='ow's'at
'ows'at='ow's'at 'ow'sat='ow's'at shant=shan't shed've=she'd've she'dve=she'd've shouldve=should've shouldnt=shouldn't
shouldnt've=shouldn't've shouldn'tve=shouldn't've somebody'd=somebodyd somebodyd've=somebody'd've
somebody'dve=somebody'd've somebodyll=somebody'll somebodys=somebody's someoned=someone'd someoned've=someone'd've
someone'dve=someone'd've someonell=someone'll someones=someone's somethingd=something'd somethingd've=something'd've
something'dve=something'd've somethingll=something'll thats=that's thered=there'd thered've=there'd've
there'dve=there'd've therere=there're theres=there's theyd=they'd theyd've=they'd've they'dve=they'd've theyll=they'll
theyre=they're theyve=they've twas='twas wasnt=wasn't wed've=we'd've we'dve=we'd've weve=we've werent=weren't
whatll=what'll whatre=what're whats=what's whatve=what've whens=when's whered=where'd wheres=where's whereve=where've
whod=who'd whod've=who'd've who'dve=who'd've wholl=who'll whos=who's whove=who've whyll=why'll whyre=why're whys=why's
wont=won't wouldve=would've wouldnt=wouldn't wouldnt've=wouldn't've wouldn'tve=wouldn't've yall=y'all yall'll=y'all'll
y'allll=y'all'll yall'd've=y'all'd've y'alld've=y'all'd've y'all'dve=y'all'd've youd=you'd youd've=you'd've
you'dve=you'd've youll=you'll youre=you're youve=you've
"""
CORRECTED = dict(pair.split("=") for pair in CONTRACTIONS.split())


def clean(text):
    """Newlines and tabs are spaces."""
    return "".join(" " if char in "\n\t" else char for char in text).strip()


def without_marks(text):
    has_number = any(
        text[i] == "," and 0 < i < len(text) - 1 and text[i - 1] in DIGITS and text[i + 1] in DIGITS
        for i in range(len(text))
    )
    gone = {
        mark
        for mark in MARKS
        if has_number or any(pair in (mark + " ", " " + mark) for pair in map("".join, itertools.pairwise(text)))
    }
    chars = ["" if char in gone else " " if char in MARKS else char for char in text]
    text = "".join(chars)
    return "".join(char for i, char in enumerate(text) if char != "." or (i + 1 < len(text) and text[i + 1] in DIGITS))


def corrected_words(text):
    words = []
    for word in text.lower().split():
        number = "0" if word == "none" else str(NUMBERS.index(word)) if word in NUMBERS else word
        if number not in ("a", "an", "the"):
            words.append(CORRECTED.get(number, number))
    return " ".join(words)


def normal_form(text):
    return corrected_words(without_marks(text))


def accuracy(prediction, answers):
    """The mean over the annotators of min(1, how many of the others said so / 3)."""
    prediction, answers = clean(prediction), [clean(answer) for answer in answers]
    if any(answer != answers[0] for answer in answers):
        prediction, answers = normal_form(prediction), [normal_form(answer) for answer in answers]
    total = 0.0
    for left_out in range(len(answers)):
        others = answers[:left_out] + answers[left_out + 1 :]
        agreeing = sum(1 for other in others if other == prediction)
        total += 1.0 if agreeing >= 3 else agreeing / 3
    return total / len(answers)
