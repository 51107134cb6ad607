"""What `export` writes, used by transformers alone: its own loading, its own tokenizer, its own decoding."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from backbones import make

from mmtune.model import Model
from mmtune.models.tiny import tiny_tokenizer

pytestmark = pytest.mark.peers

PROMPTS = ["a star", "how many  rings are there?", "é 日本 \t x"]


@pytest.fixture(scope="module", params=["gemma", "gemma2", "llama3", "paligemma", "paligemma2"])
def exported(request, tmp_path_factory):
    # PaliGemma 2 in transformers applies no window within the prefix; see test_peer_forward.
    wide = {"sliding_window_size": 99} if request.param == "paligemma2" else {}
    backbone = make(request.param, vocabulary_size=tiny_tokenizer().vocabulary_size, **wide)
    model = Model(backbone, tiny_tokenizer(), name=request.param)
    return model, model.export(tmp_path_factory.mktemp(request.param) / "out")


def test_token_ids(exported):
    model, folder = exported
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for prompt in PROMPTS:
        assert theirs(prompt, add_special_tokens=False).input_ids == model.tokenizer.encode(prompt)
        assert theirs(prompt).input_ids == [model.tokenizer.bos, *model.tokenizer.encode(prompt)]


def test_greedy_answers(exported):
    model, folder = exported
    auto = transformers.AutoModelForImageTextToText if model.image_size else transformers.AutoModelForCausalLM
    theirs = auto.from_pretrained(folder, dtype=torch.float32).eval()
    for seed, prompt in enumerate(PROMPTS):
        ids, pictures, picture = model.tokenizer.prompt(prompt), {}, None
        if model.image_size:
            side = model.image_size
            picture = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
            values = torch.tensor(picture / np.float32(127.5) - 1, dtype=torch.float32).permute(2, 0, 1)[None]
            ids = [theirs.config.image_token_id] * model.spec.image_tokens + ids
            pictures = {"pixel_values": values, "token_type_ids": torch.zeros(1, len(ids), dtype=torch.long)}
        asked = torch.tensor([ids])
        found = theirs.generate(
            asked, attention_mask=torch.ones_like(asked), do_sample=False, max_new_tokens=32, **pictures
        )[0, len(ids) :].tolist()
        (ours,) = model.generate(picture, [prompt], max_tokens=32)
        assert model.tokenizer.decode(found) == ours.text
