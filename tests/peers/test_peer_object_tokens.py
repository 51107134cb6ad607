"""Ids of prompts and targets against transformers' PaliGemmaProcessor, for every form in which a folder holds them.

MMTUNE_GEMMA_TOKENIZER names a folder with the real tokenizer.json of Gemma or Gemma 2, of which the published form of
PaliGemma's is made.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from paligemma_vocabularies import IMAGE, JSON_FORMS, PIECE_FORMS, with_places, write
from PIL import Image

from mmtune.codecs.boxes import NOISE_LABEL
from mmtune.files import write_json
from mmtune.models.hf_tokenizer import read_tokenizer

pytestmark = pytest.mark.peers

NAME = "MMTUNE_GEMMA_TOKENIZER"
SIDE, IMAGE_TOKENS = 28, 4
BOX, OTHER = "<loc0000><loc0007><loc1023><loc0512>", "<loc0100><loc0200><loc0300><loc0400>"
CODES = "".join(f"<seg{code:03d}>" for code in range(0, 128, 8))
CASES = [
    ("detect cat", f"{BOX} cat"),
    ("detect cat ; red blood cell", f"{BOX} cat ; {OTHER} red blood cell ; {BOX} cat"),
    ("detect all classes", ""),
    ("segment cat ; traffic light", f"{BOX}{CODES} cat ; {OTHER}{CODES} traffic light"),
    ("the cat on the left", f"{BOX}{CODES}"),
    (f"caption {BOX}", "a cat, two  dogs\tand 12 zebras"),
    (f"describe{BOX}{OTHER} here ", "déjà vu 日本語 🐈"),
    ("detect don't stop-sign (old) ; 3.5\" disk", f"{BOX} don't stop-sign (old) ; {OTHER} 3.5\" disk"),
    ("ocr", f"STOP{BOX}<loc9999><seg128><loc1> <seg000>"),
    ("question en no\n", "what is\nthat?"),
]


@pytest.fixture(scope="module", params=[*JSON_FORMS, *PIECE_FORMS, "published"])
def folder(request, tmp_path_factory):
    made = tmp_path_factory.mktemp(request.param)
    if request.param != "published":
        write(made, request.param, add_bos_token=True)
    elif NAME in os.environ:
        published(Path(os.environ[NAME]), made)
    else:
        pytest.skip(f"{NAME} does not name a folder with Gemma's tokenizer.json")
    write_json(made / "config.json", {"model_type": "paligemma"})
    kind = {"image_processor_type": "SiglipImageProcessor", "processor_class": "PaliGemmaProcessor"}
    size = {"size": {"height": SIDE, "width": SIDE}, "image_seq_length": IMAGE_TOKENS}
    write_json(made / "preprocessor_config.json", kind | size)
    return made


def published(source, made):
    """Makes PaliGemma's files as Google publishes them of Gemma's: 1,152 more pieces of which none is registered."""
    content = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    with_places(content, "unregistered")
    assert content["model"]["vocab"]["<loc0000>"] == 256000
    assert content["model"]["vocab"]["<seg127>"] == 257151
    (made / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    shutil.copy(source / "tokenizer_config.json", made)


@pytest.fixture(scope="module")
def processor(folder):
    return transformers.AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def ours(folder):
    return read_tokenizer(folder)


def test_prompts_and_targets(ours, processor):
    assert type(processor).__name__ == "PaliGemmaProcessor"
    picture = Image.new("RGB", (SIDE, SIDE))
    for prompt, target in CASES:
        found = processor(images=picture, text=IMAGE + prompt.rstrip("\n"), suffix=target)
        ids, labels = (list(map(int, found[name][0])) for name in ("input_ids", "labels"))
        expected = [*ours.encode(target), ours.eos]
        assert ids[IMAGE_TOKENS:] == [*ours.prompt(prompt), *expected], (prompt, target)
        assert [label for label in labels if label != -100] == expected


def test_each_token(ours, processor):
    """transformers registers locations and segments; the noise label only where the files do."""
    theirs = processor.tokenizer
    for token in (*(f"<loc{i:04d}>" for i in range(1024)), *(f"<seg{i:03d}>" for i in range(128))):
        assert ours.encode(token) == [theirs.convert_tokens_to_ids(token)] == [ours.find(token)]
    assert ours.encode(NOISE_LABEL) == [theirs.convert_tokens_to_ids(NOISE_LABEL)]
    target = f"{BOX} cat ; {OTHER} {NOISE_LABEL}"
    registered = NOISE_LABEL in theirs.get_added_vocab()
    assert (theirs.encode(target, add_special_tokens=False) == ours.encode(target)) == registered
