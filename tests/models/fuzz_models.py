"""Loads thousands of models, each mutated by a seed, in a process whose memory is bounded.

`python fuzz_models.py WHOLE WORK [ROUND]`: WHOLE holds whole models, as `broken_models.write_all` makes them, WORK is
an empty folder, another ROUND (a number) makes other mutations. Written to standard output is a JSON object: by kind of
file how many were accepted and refused, and what was neither.
"""

import json
import random
import resource
import shutil
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import mmtune.models.hf_load as hf_load
from mmtune.errors import MmtuneError
from mmtune.models.hf_tokenizer import read_tokenizer
from mmtune.models.load import load

ROOM = 1 << 30  # bytes that may be taken beyond what the process holds once it is warm
SECONDS = 300
COUNTS = {"headers": 1000, "configs": 1000, "gguf": 300, "tokenizers": 300}
CONFIGS = (
    *("llama/config.json", "llama/model.safetensors.index.json", "llama/tokenizer_config.json"),
    *("paligemma/config.json", "paligemma/preprocessor_config.json", "adapter/adapter_config.json"),
)
TEXTS = ["", " the cat\n\n\t12 ", "déjà 猫 😀", "</s> <s>", "x" * 300]

LEAVES = (0, -1, 1, 3, 2**31, 2**63, -(2**63), 2**64 - 1, 10**30, 10**400, 0.5, -0.0, 1e-300, 1e308, float("inf"))
LEAVES += (float("nan"), None, True, False, "", "x", "\0", "\ud800", "../x", "é" * 50_000, [], {}, [[]], {"a": 1})


class SameError(Exception):
    """A model that was built before would be built again."""


def build_once(real: Callable) -> Callable:
    """Returns `build_backbone` that raises `SameError` for a description it has seen: what takes time is done once."""
    seen = set()

    def build(spec, dtype):
        if (spec, dtype) in seen:
            raise SameError
        seen.add((spec, dtype))
        return real(spec, dtype)

    return build


def flip(rng: random.Random, raw: bytes, within: int) -> bytes:
    """Returns bytes with some of the first ones changed, taken out, put in, or with the end cut off."""
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(min(within, len(changed)))
        kind = rng.randrange(4)
        if kind == 0:
            changed[at] = rng.randrange(256)
        elif kind == 1:
            del changed[at : at + rng.choice((1, 4, 50))]
        elif kind == 2:
            changed[at:at] = rng.randbytes(rng.choice((1, 4, 50)))
        else:
            number = rng.choice((0, 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1))
            changed[at : at + 8] = struct.pack("<Q", number)
        if not changed:
            break
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.1 else changed)


def nodes(value, path=()) -> Iterator[tuple]:
    """Yields the path of each value within a JSON value."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from nodes(inner, (*path, key))


def put(value, path, new):
    """Returns a value with another one at a path."""
    if not path:
        return new
    at = value
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return value


def get(value, path):
    for key in path:
        value = value[key]
    return value


def change_json(rng: random.Random, raw: bytes) -> bytes:
    """Returns a JSON text with values put in others' places, taken out, doubled, nested, or bytes flipped."""
    if rng.random() < 0.25:
        return flip(rng, raw, len(raw))
    value = json.loads(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        paths = [path for path in nodes(value) if path] or [()]
        path = rng.choice(paths)
        kind = rng.randrange(5)
        held = get(value, path)
        if kind == 0 and path:
            del get(value, path[:-1])[path[-1]]
        elif kind == 1 and type(held) in (int, float) and abs(held) < 1e300:
            value = put(value, path, rng.choice((held + 1, held - 1, -held, held * 10**9, float(held), str(held))))
        elif kind == 2:
            value = put(value, path, json.loads(json.dumps(get(value, rng.choice(paths)))))
        else:
            value = put(value, path, rng.choice(LEAVES))
    text = json.dumps(value)
    if rng.random() < 0.05:
        deep = rng.choice((50, 900, 100_000))
        text = text.replace(": ", ": " + "[" * deep + "]" * rng.choice((0, deep)) + rng.choice(("", ", ")), 1)
    if rng.random() < 0.05 and '"' in text:
        key = text[text.index('"') :].split(",")[0]
        text = text.replace(key, f"{key}, {key}", 1)
    return text.encode("utf-8", "surrogatepass")


class Mutation(NamedTuple):
    """A file of a model by its place among the whole ones, what it holds now, and what is asked of the model then."""

    file: str
    raw: bytes
    use: Callable


def headers(rng: random.Random, whole: Path, work: Path) -> Mutation:
    file = "paligemma/model.safetensors"
    raw = (whole / file).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    if rng.random() < 0.3:
        new = flip(rng, raw, 8 + length)
    else:
        header = change_json(rng, raw[8 : 8 + length])
        said = len(header) if rng.random() < 0.95 else rng.choice((0, 1, 10**9, 2**63))
        new = struct.pack("<Q", said) + header + raw[8 + length :]
    return Mutation(file, new, lambda: load(work / "paligemma"))


def configs(rng: random.Random, whole: Path, work: Path) -> Mutation:
    file = rng.choice(CONFIGS)
    return Mutation(file, change_json(rng, (whole / file).read_bytes()), lambda: load(work / Path(file).parent))


def gguf(rng: random.Random, whole: Path, work: Path) -> Mutation:
    file = "gguf/m.gguf"
    raw = (whole / file).read_bytes()
    within = rng.choice((32, 400, raw.index(b"token_embd") + 900, len(raw)))
    return Mutation(file, flip(rng, raw, within), lambda: load(work / file))


def tokenizers(rng: random.Random, whole: Path, work: Path) -> Mutation:
    raw = (whole / rng.choice(("llama", "spaced")) / "tokenizer.json").read_bytes()

    def use():
        tokenizer = read_tokenizer(work / "llama")
        for text in TEXTS:
            tokenizer.decode(tokenizer.prompt(text))
        tokenizer.decode(range(min(1000, tokenizer.vocabulary_size)))
        load(work / "llama")

    return Mutation("llama/tokenizer.json", change_json(rng, raw), use)


def attempt(use: Callable) -> str:
    """Returns "accepted", "refused", or what else became of a model."""
    try:
        use()
    except SameError:
        return "accepted"
    except MmtuneError as error:
        return "refused" if len(str(error)) < 2000 else f"a message of {len(str(error))} characters"
    except BaseException as error:  # Rust's panics are no Exception
        return f"{type(error).__name__}: {str(error)[:200]}\n{''.join(traceback.format_tb(error.__traceback__)[-4:])}"
    return "accepted"


def bound() -> None:
    """Bounds memory, and time on the processor: what never ends is killed, however slow the machine."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, held + ROOM))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def main(whole: Path, work: Path, turn: int) -> dict:
    hf_load.build_backbone = build_once(hf_load.build_backbone)
    shutil.copytree(whole, work, dirs_exist_ok=True)
    for place in ("llama", "paligemma", "gguf/m.gguf", "adapter"):
        assert attempt(lambda place=place: load(whole / place)) == "accepted", place
    bound()
    report = {"bound": attempt(lambda: np.ones(2 * ROOM, np.uint8))}
    for make in (headers, configs, gguf, tokenizers):
        kind = make.__name__
        found: dict = {"accepted": 0, "refused": 0, "others": []}
        for seed in range(turn * COUNTS[kind], (turn + 1) * COUNTS[kind]):
            mutation = make(random.Random(f"{kind} {seed}"), whole, work)
            (work / mutation.file).write_bytes(mutation.raw)
            end = attempt(mutation.use)
            if end in found:
                found[end] += 1
            else:
                found["others"].append(f"{kind} {seed}: {end}")
            shutil.copy(whole / mutation.file, work / mutation.file)
        report[kind] = found
    return report


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)))
