"""Prints the tables of mmtune/metrics/ptb_chars.py, by asking the Java program about every character.

python tests/golden/make_ptb_characters.py      (needs pycocoevalcap and Java)
"""

import subprocess
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

# A line end would part a line in two; the comma of Chinese stands in a rule of its own.
LEFT_OUT = "\n\r\x0b\x0c\x85\u2028\u2029\u3001"
CONTEXTS = ("{}", "a{}b", "1{}2", "a-{}", "{}{}")
# How a character of each table shows itself in these contexts; {} is the character.
TABLES = {
    "LETTERS": ("{}", "a{}b", "1{}2", "a-{}", "{}{}"),
    "MARKS": ("{}", "a{}b", "1 {}2", "a - {}", "{}{}"),
    "SIGNS": ("{}", "a {} b", "1 {} 2", "a - {}", "{} {}"),
}


def tokens(lines: Sequence[str]) -> list[str]:
    """Returns the Java program's tokens of each line."""
    from pycocoevalcap.tokenizer import ptbtokenizer

    folder = Path(ptbtokenizer.__file__).parent
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        command = ["java", "-cp", ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR, "edu.stanford.nlp.process.PTBTokenizer"]
        done = subprocess.run(
            [*command, "-preserveLines", file.name], cwd=folder, capture_output=True, check=True, encoding="utf-8"
        )
    return done.stdout.split("\n")[: len(lines)]


def ranges(codes: Sequence[int]) -> Iterator[str]:
    """Yields runs of code points such as "5d0-5ea"."""
    start = last = None
    for code in [*codes, None]:
        if last is not None and code != last + 1:
            yield f"{start:x}" if start == last else f"{start:x}-{last:x}"
            start = None
        start, last = (code if start is None else start), code


def main() -> None:
    """Prints the tables."""
    codes = [code for code in range(0x80, 0x10000) if not 0xD800 <= code < 0xE000 and chr(code) not in LEFT_OUT]
    cut = tokens([context.replace("{}", chr(code)) for code in codes for context in CONTEXTS])
    found = {
        code: tuple(line.replace(chr(code), "{}") for line in cut[place : place + len(CONTEXTS)])
        for code, place in zip(codes, range(0, len(cut), len(CONTEXTS)), strict=True)
    }
    alike = {name: [code for code in codes if found[code] == shown] for name, shown in TABLES.items()}
    digits = [code for code in alike["LETTERS"] if chr(code).isdecimal()]
    alike["LETTERS"] = sorted(set(alike["LETTERS"]) - set(digits))
    for name, members in {**alike, "DIGITS": digits}.items():
        print(f'{name} = """\n{textwrap.fill(" ".join(ranges(members)), 116)}\n"""')


if __name__ == "__main__":
    main()
