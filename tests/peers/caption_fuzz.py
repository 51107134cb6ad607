"""Captions to compare tokenizers on: made up of pieces that are hard to cut, of single characters, and real ones."""
# ruff: noqa: RUF001 - quotes and dashes of all kinds

import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_PIECES = r"""
a man woman in the red shirt dog's isn't can't cannot gonna wanna lemme gimme gotta Mr. Mrs. Dr. St. U.S.
U.S.A. p.m. etc. No. 5 10 1,000 3.5 1/2 50% $5 $3.50 £20 €7 5¢ tri-colored t-shirt o'clock 'tis 'em 'till
rock'n'roll y'all it's they're we've I'm he'd she'll James' dogs' 20's 1990s '90s 5'10" 6ft 2nd 21st
http://www.a.com/b?c=d www.site.org a@b.com #tag @user :) :-) ;) <3 <b> </b> <img src="x"> &amp; & AT&T R&B
and/or w/ w/o n/a 24/7 5x5 - -- --- — – … ... .. ! ? !! ?! ; : , . ( ) [ ] { } " ' ` '' `` “ ” ‘ ’ « » * **
~ ^ _ __ | \ / + = % # @ café naïve Zürich 日本 привет مرحبا ☕ 😀 👍🏽 ½ ¼ ² ° № ™ é ß ﬁ Jr. Inc. Ph.D.
e.g. i.e. a.m. I. B. C. X. x. Ave. ave. street. end. A The It However Ms. one. O'Brien McDonald's
mother-in-law 3-year-old mid-'90s 800-555-1234 (800) 555 1234 12:30 12/25/2010 2010-12-25 file.jpg
IMG_1234.JPG v1.0 C++ C# .NET self- -like don’t ’cause “hi” l’eau d’or ma’am don`t don´t a.b a.b.c x,y 1,2
1.5-2 -5 +5 ±5 2+2=4 a=b a*b #5 $$ US$5 &lt; &gt; &quot; &apos; &nbsp; &eacute; &#39; &mdash; 'n' 'n ol'
nothin' dunno ain't won't n't 't 's 're 'S s' Oct. Tues. fig. pp. 7 vs. cf. approx. dept. Sgt. Co. Corp.
Ltd. ft. in. oz. Mt. anti- -LRB- co. Ark. ill.
"""
PIECES = _PIECES.split()
LETTER_PIECES = ("abAB12.,-'/ ", "aA1.,-'/", "oOxXTD:;=<>^_-.'() ", "nNtT'’s mdlv", "MrsDInco.t aA1-", "cCfF#+a .")
CHARACTERS = (
    *LETTER_PIECES,
    "aA1 .!?:;)(<>=&@#$%*+-_~^|\\\"'`[]{}/,",
    "aB1é\u0301٣日’‘“”«»‹›—–…½²\u2010\u00ad\u00a0\u3000\u2009£€¢ .,'-/",
    "@.comnetorgwww/:htps- aA1",
    "<>/ab=\"' !?-",
    "()0123456789-+. /",
    "&;apostlgquotnbmdhHT#1 ",
    "\U0001f600\U0001d400\u200d\ufe0fa1. '",
)
BEHIND = (" ", " ", " ", " ", "", "", ".", ",", "-", "'s", '"', ")", "  ")


def composed(rng: random.Random) -> str:
    """Returns a caption of pieces, some of them stuck together."""
    caption = ""
    for _ in range(rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 12))):
        kind = rng.random()
        if kind < 0.85:
            piece = rng.choice(PIECES)
            caption += piece.upper() if kind < 0.07 else piece
        else:
            caption += "".join(rng.choice(rng.choice(CHARACTERS)) for _ in range(rng.randint(1, 5)))
        caption += rng.choice(BEHIND)
    return caption


def scrambled(rng: random.Random) -> str:
    """Returns a few characters that get in each other's way."""
    pool = rng.choice(CHARACTERS)
    return "".join(rng.choice(pool) for _ in range(rng.randint(1, 14)))


def installed_texts(count: int, seed: int) -> list[str]:
    """Returns lines of the documentation and code of installed packages."""
    root = Path(sysconfig.get_paths()["purelib"])
    files = sorted(file for ending in ("md", "rst", "txt", "py") for file in root.glob(f"*/**/*.{ending}"))
    rng = random.Random(seed)
    rng.shuffle(files)
    return list(_some_lines(files, count, rng))


def _some_lines(files: list[Path], count: int, rng: random.Random) -> Iterator[str]:
    left = count
    for file in files:
        try:
            lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
        except (OSError, UnicodeDecodeError):
            continue
        for line in rng.sample(lines, min(len(lines), 20)):
            yield re.sub("[\r\v\f\x85\u2028\u2029]", " ", line)[:300]
            left -= 1
            if not left:
                return
