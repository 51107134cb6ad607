"""Our chat templates against transformers' `apply_chat_template` with the published template, token by token."""

import json

import pytest

pytest.importorskip("jinja2")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from mmtune.models.hf_tokenizer import read_tokenizer
from mmtune.models.tokenizer import Tokenizer
from mmtune.records import Record, Turn
from mmtune.tasks.instruct import Instruct
from mmtune.training.examples import tokenise

pytestmark = pytest.mark.peers

# The `chat_template` of google/gemma-2-2b-it, meta-llama/Meta-Llama-3-8B-Instruct and
# HuggingFaceTB/SmolLM2-135M-Instruct, as published.
PUBLISHED = {
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
        "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
    ),
    "llama3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
        "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
        "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "chatml": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
        "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
}
SPECIAL = {
    "gemma": ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "\n\n\n"],
    "llama3": [
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>",
    ],
    "chatml": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
}  # fmt: skip
ENDS = {"gemma": "<end_of_turn>", "llama3": "<|eot_id|>", "chatml": "<|im_end|>"}
# How Llama 3 splits text before byte pairs are merged.
LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TALKS = {
    "one turn": ["What is red?", "A colour."],
    "white space": ["\n  def f(x):\n\n    return x\n\n", "  It returns x.\n\nReally. "],
    "three turns": ["Hello!", "Hi, 12345 times.", "naïve 日本語?", "はい 😀", "\tBye", "Bye bye\n"],
    "marks at the borders": ["'s ...", "(!)\n\n- a\n- b", "1\n2", " 3"],
    "an empty line within": ["a\n\n\nb", "c\n\n\n\nd"],
}


class Peer:
    """A vocabulary of transformers behind the interface of ours."""

    def __init__(self, fast, eos):
        self.fast, self.bos, self.eos = fast, fast.bos_token_id, fast.convert_tokens_to_ids(eos)
        self.chat_template = fast.chat_template
        self.start = [self.bos] if "bos_token" in fast.chat_template else []

    def encode(self, text):
        return self.fast.encode(text, add_special_tokens=False)

    def find(self, piece):
        return self.fast.get_vocab().get(piece)

    def prompt(self, text, closed=True):
        return Tokenizer.prompt(self, text, closed)


def corpus():
    return [text for talk in TALKS.values() for text in talk] * 20


def peer(family):
    """Builds a byte-pair vocabulary in the manner of the family, trained on the texts below."""
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

    if family in ("llama3", "chatml"):
        built = tokenizers.Tokenizer(models.BPE())
        split = pre_tokenizers.Split(Regex(LLAMA_SPLIT), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        built.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        built.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:  # SentencePiece's byte pairs: spaces are letters, nothing is split
        built = tokenizers.Tokenizer(models.BPE())
        from tokenizers import normalizers

        built.normalizer = normalizers.Replace(" ", "▁")
        alphabet = sorted({char for text in corpus() for char in text.replace(" ", "▁")} | set("usermodel"))
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL[family], initial_alphabet=alphabet, show_progress=False
    )
    built.train_from_iterator(corpus(), trainer)
    names = SPECIAL[family]
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=built, bos_token=names[0], eos_token=names[1])
    fast.chat_template = PUBLISHED[family]
    return Peer(fast, names[1])


def messages(talk):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(talk)]


def record(talk, system=None):
    head = () if system is None else (Turn("system", system),)
    return Record("r", turns=head + tuple(Turn(m["role"], m["content"]) for m in messages(talk)))


def theirs(vocabulary, listed, asking):
    text = vocabulary.fast.apply_chat_template(listed, tokenize=False, add_generation_prompt=asking)
    return vocabulary.encode(text)


@pytest.fixture(scope="module", params=PUBLISHED)
def vocabulary(request):
    return request.param, peer(request.param)


def trained_ids(vocabulary, one):
    task = Instruct().for_tokenizer(vocabulary)
    (query,) = task.lessons(one)
    (target,) = task.targets(one, query)
    ids, weights, _ = tokenise(target, vocabulary, task.ends(vocabulary)[0])
    prompt = vocabulary.prompt(query.prompt)
    return prompt + ids, [0.0] * len(prompt) + weights


@pytest.mark.parametrize("talk", TALKS)
def test_training_rows(vocabulary, talk):
    """All ids of a row are those of the whole conversation; some end the last turn with one more newline."""
    family, peer_vocabulary = vocabulary
    ids, _ = trained_ids(peer_vocabulary, record(TALKS[talk]))
    expected = theirs(peer_vocabulary, messages(TALKS[talk]), asking=False)
    tail = peer_vocabulary.encode("\n") if family in ("gemma", "chatml") else []
    assert ids + tail == expected
    assert family == "chatml" or ids.count(peer_vocabulary.bos) == 1


@pytest.mark.parametrize("talk", TALKS)
def test_prompts(vocabulary, talk):
    _, peer_vocabulary = vocabulary
    task = Instruct().for_tokenizer(peer_vocabulary)
    (query,) = task.queries(record(TALKS[talk]))
    expected = theirs(peer_vocabulary, messages(TALKS[talk][:-1]), asking=True)
    assert peer_vocabulary.prompt(query.prompt) == expected


@pytest.mark.parametrize("talk", TALKS)
def test_the_mask(vocabulary, talk):
    """Taught is what the template adds when the assistant's turn is put behind the prompt for it, up to its end."""
    family, peer_vocabulary = vocabulary
    ids, weights = trained_ids(peer_vocabulary, record(TALKS[talk]))
    expected = [0.0] * len(ids)
    end = peer_vocabulary.find(ENDS[family])
    for place in range(1, len(TALKS[talk]), 2):
        start = len(theirs(peer_vocabulary, messages(TALKS[talk][:place]), asking=True))
        for at in range(start, ids.index(end, start) + 1):
            expected[at] = 1.0
    assert weights == expected


def test_the_system():
    vocabulary = peer("llama3")
    listed = [{"role": "system", "content": " Be brief. "}, *messages(TALKS["three turns"])]
    ids, _ = trained_ids(vocabulary, record(TALKS["three turns"], " Be brief. "))
    assert ids == theirs(vocabulary, listed, asking=False)
    # Gemma's template refuses it; in front of the user's text it is what its model card's users do.
    vocabulary = peer("gemma")
    joined = ["Be brief.\n\nHello!", *TALKS["three turns"][1:]]
    ids, _ = trained_ids(vocabulary, record(TALKS["three turns"], " Be brief. "))
    assert ids + vocabulary.encode("\n") == theirs(vocabulary, messages(joined), asking=False)


def test_tokenising_apart_anywhere_else_differs():
    """Guards the tests above: cut within a text, the pieces would not be those of the whole."""
    for family in PUBLISHED:
        vocabulary = peer(family)
        whole = "It returns x.\n\nReally."
        assert vocabulary.encode("It ret") + vocabulary.encode("urns x.\n\nReally.") != vocabulary.encode(whole)


LISTED = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "listed"}]


@pytest.mark.parametrize(
    ("settings", "file"), [("inside", None), (None, "in a file"), ("inside", "in a file"), (LISTED, None), (None, None)]
)
def test_where_the_chat_template_is_read_from(tmp_path, settings, file):
    """In tokenizer_config.json, or in chat_template.jinja, which wins."""
    fast = peer("gemma").fast
    fast.chat_template = None
    fast.save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | ({"chat_template": settings} if settings else {})))
    if file is not None:
        (tmp_path / "chat_template.jinja").write_text(file)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    expected = theirs.get_chat_template() if theirs.chat_template else ""
    assert read_tokenizer(tmp_path).chat_template == expected
    assert expected == (file or ("listed" if settings is LISTED else settings) or "")
