"""A small model in the manner of SmolLM2 as a GGUF file: split of digits, ChatML, an end that also fills rows."""

import json

import pytest
import tokenizers
from backbones import make
from commands import run
from test_gguf import write
from test_json_tokenizer import CORPUS, TEXTS
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from mmtune.codecs.chat import template_of
from mmtune.models.load import load

CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are small.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Pieces of texts as GPT-2 cuts them (github.com/openai/gpt-2, encoder.py); SmolLM2 takes digits one by one before.
GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CUTS = {
    "gpt-2": [GPT_2],
    "smollm": [r"\p{N}", GPT_2],
}
DIGITS = [
    *TEXTS,
    "in 2024 and 1999, 7 or 3.14159",
    "    for i in range(10):\n\tx[12] += 345\n\n\n        return x",
    " 1  22   333\t4444\n55555",
    "a1b22c333 v2 ٣٤ ²½ Ⅷ 12日",
    "don't we'll IT'S",
]


def made(split):
    """Returns byte pairs that were learned from texts with long numbers, cut by regular expressions alone."""
    built = tokenizers.Tokenizer(models.BPE())
    cuts = [pre_tokenizers.Split(Regex(cut), "isolated") for cut in CUTS[split]]
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built.pre_tokenizer = pre_tokenizers.Sequence([*cuts, bytewise])
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=CONTROLS, initial_alphabet=alphabet, show_progress=False
    )
    built.train_from_iterator([*CORPUS, *DIGITS, *(f" {n} {n}" for n in range(1990, 2030))] * 3, trainer)
    return built


def small(path, split="smollm", vocabulary=None):
    """Writes a model and returns the file's name."""
    built = vocabulary or made(split)

    def add(writer):
        known = built.get_vocab(with_added_tokens=True)
        tokens = sorted(known, key=known.get)
        merges = json.loads(built.to_str())["model"]["merges"]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(split)
        writer.add_token_list(tokens)
        writer.add_token_types([3 if token in CONTROLS else 1 for token in tokens])
        writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
        for name, token in (("bos", "<|im_start|>"), ("eos", "<|im_end|>"), ("pad", "<|im_end|>")):
            getattr(writer, f"add_{name}_token_id")(known[token])
        writer.add_add_bos_token(False)
        writer.add_chat_template(CHAT_TEMPLATE)

    return write(path, "llama3", make("llama3", vocabulary_size=600), add=add)


@pytest.mark.parametrize("split", CUTS)
def test_texts_are_split_as_the_file_says(tmp_path, split):
    built = made("gpt-2")  # long numbers are in the vocabulary, whether or not the split lets them come about
    ours = load(small(tmp_path / "m.gguf", split, built)).tokenizer
    built.pre_tokenizer = made(split).pre_tokenizer
    for text in DIGITS:
        ids = built.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == ids, text
        assert ours.decode(ids) == text


def test_the_ways_to_split_differ():
    """Guards the test above."""
    one, other = made("gpt-2"), made("gpt-2")
    other.pre_tokenizer = made("smollm").pre_tokenizer
    assert sum(one.encode(text).ids != other.encode(text).ids for text in DIGITS) > 3


def test_a_chat_is_what_the_files_own_template_writes(tmp_path):
    tokenizer = load(small(tmp_path / "m.gguf")).tokenizer
    assert tokenizer.start == []
    assert tokenizer.eos == tokenizer.pad == tokenizer.find("<|im_end|>")
    template = template_of(tokenizer)
    assert (template.name, template.opening) == ("chatml", "You are small.")
    assert template.ends(tokenizer) == (tokenizer.find("<|im_end|>"), tokenizer.find("<|endoftext|>"))


def test_asked_and_exported(tmp_path, capsys):
    """Both ways to ask, on the command line; the exported folder answers as the file does."""
    file, folder = small(tmp_path / "m.gguf"), tmp_path / "out"
    asked = ("--task", "instruct", "--prompt", "the cat", "--max-tokens", 12)
    texts = {}
    for template in ("auto", "text", "plain"):
        chosen = (*asked, "--set", f"options.template={template}")
        code, texts[template], err = run(capsys, "predict", file, *chosen)
        assert (code, "Traceback" in err) == (0, False)
    assert len(set(texts.values())) == 3
    assert run(capsys, "export", file, folder, "--format", "hf")[0] == 0
    for template, text in texts.items():
        assert run(capsys, "predict", folder, *asked, "--set", f"options.template={template}")[1] == text
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert (settings["chat_template"], settings["eos_token"]) == (CHAT_TEMPLATE, "<|im_end|>")


def test_a_text_to_go_on_with_has_no_newline_behind_it(tmp_path):
    model = load(small(tmp_path / "m.gguf"))
    tokenizer = model.tokenizer
    (found,) = model.generate(None, ["the cat"], 8, closed=False)
    (other,) = model.generate(None, ["the cat"], 8)
    assert found.text != other.text
    again = model.predict(task="instruct", prompt="the cat", max_tokens=8, options={"template": "text"}).text
    assert again == found.text
    assert tokenizer.prompt("the cat", closed=False) == tokenizer.encode("the cat")
