"""The byte pairs of a Keras preset of Llama 3, made of the real tokenizer.json, against the library that reads that.

MMTUNE_LLAMA3_TOKENIZER names the folder of Llama 3's tokenizer.json.
"""

import json
import os
from pathlib import Path

import pytest
import tokenizers
from script_strings import corpus, strings
from vocabularies import LLAMA_3_CONTROLS, keras_llama_3

from mmtune.codecs.chat import LLAMA_3
from mmtune.models.preset_tokenizer import read_preset_tokenizer

NAME = "MMTUNE_LLAMA3_TOKENIZER"
FILE = Path(os.environ.get(NAME, "")) / "tokenizer.json"

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(NAME not in os.environ, reason=f"{NAME} does not name a folder with Llama 3's tokenizer.json"),
]
CODE = ["def f(x):\n        return {\n            'a': 1,\n        }\n\n\n", "\tif (x)\n\t\t\treturn;  // 12345678\r\n"]


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preset")
    keras_llama_3(json.loads(FILE.read_text(encoding="utf-8"))).save_to_preset(str(folder))
    return read_preset_tokenizer(str(folder))


def test_ids_are_those_of_the_real_vocabulary(ours):
    theirs = tokenizers.Tokenizer.from_file(str(FILE))
    texts = [*corpus(), *CODE, *(text for _, text in strings(1000, LLAMA_3.pieces))]
    assert [text for text in texts if ours.encode(text) != theirs.encode(text, add_special_tokens=False).ids] == []
    for piece in set(LLAMA_3_CONTROLS) - {"<|reserved_special_token_0|>"}:
        assert ours.find(piece) == theirs.token_to_id(piece)
    assert (ours.start, ours.eos) == ([128_000], 128_001)
    assert LLAMA_3.missing(ours) == []
    assert LLAMA_3.ends(ours)[0] == theirs.token_to_id("<|eot_id|>")
    assert ours.vocabulary_size <= 128_256


def test_kerashubs_own_split_gives_other_ids():
    """Guards the test above: texts that are split wrongly show."""
    theirs = keras_llama_3(json.loads(FILE.read_text(encoding="utf-8")))
    library = tokenizers.Tokenizer.from_file(str(FILE))
    assert [text for text in CODE if list(theirs(text)) != library.encode(text, add_special_tokens=False).ids]
