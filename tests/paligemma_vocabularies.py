"""Vocabularies with PaliGemma's tokens for boxes and masks, in every form in which files hold them."""

import json

import tokenizers
from tokenizers import decoders, models, normalizers, trainers

from mmtune.codecs.boxes import LOCATION_TOKENS, NOISE_LABEL, SEGMENT_TOKENS
from mmtune.files import write_json
from mmtune.models.tiny import tiny_tokenizer

PLACES = (*LOCATION_TOKENS, *SEGMENT_TOKENS)
IMAGE = "<image>"
CONTROLS = ("<pad>", "<eos>", "<bos>", "<unk>")
NAMES = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
# No newline and no < or >: pairs across the borders of prompt, target and places must be left to the places' forms.
_CORPUS = [
    "detect cat ; dog",
    "segment red blood cell ; don't stop",
    "zwölf Boxkämpfer jagen 日本語",
    "loc seg 0123456789",
]
JSON_FORMS = ("unregistered", "added", "special", "apart")
PIECE_FORMS = ("NORMAL", "USER_DEFINED", "CONTROL")


def gemma():
    """Returns the content of a tokenizer.json as Gemma's is: byte pairs over characters, spaces as letters."""
    built = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    built.normalizer = normalizers.Replace(" ", "▁")
    built.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    special = [*CONTROLS, NOISE_LABEL, *bytes_]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=list("<>locseg"), show_progress=False
    )
    built.train_from_iterator(_CORPUS * 9, trainer)
    content = json.loads(built.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in CONTROLS]
    return content


def with_places(content, form):
    """Adds the tokens for places, and that for pictures, to the content of Gemma's tokenizer.json.

    Args:
        content: Changed in place.
        form: "unregistered": among the pieces of the byte pairs only, as Google publishes them; "added": registered as
            well, as transformers saves them; "special": as control tokens, the noise label too; "apart": registered and
            no pieces.
    """
    vocabulary, added = content["model"]["vocab"], content["added_tokens"]
    for place, token in enumerate(PLACES, max(vocabulary.values()) + 1):
        if form != "apart":
            vocabulary[token] = place
        if form != "unregistered":
            added.append(entry(place, token, special=form == "special", normalized=form == "added"))
    if form == "special":
        added.append(entry(vocabulary[NOISE_LABEL], NOISE_LABEL, special=True))
    added.append(entry(place + 1, IMAGE, special=True))
    added.sort(key=lambda token: token["id"])
    return content


def entry(token, content, *, special, normalized=False):
    """Returns an entry of a file's `added_tokens`."""
    kinds = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": normalized, "special": special}
    return {"id": token, "content": content, **kinds}


def pieces(form):
    """Returns the embedded SentencePiece model with its tokens of boxes and masks of another type."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(tiny_tokenizer().proto)
    for piece in model.pieces:
        if piece.piece in (*PLACES, NOISE_LABEL):
            piece.type = getattr(sentencepiece_model_pb2.ModelProto.SentencePiece, form)
    return model.SerializeToString(deterministic=True)


def write(folder, form, **settings):
    """Writes a checkpoint's vocabulary: `tokenizer.model` for one of `PIECE_FORMS`, else `tokenizer.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    if form in PIECE_FORMS:
        (folder / "tokenizer.model").write_bytes(pieces(form))
    else:
        content = json.dumps(with_places(gemma(), form), ensure_ascii=False)
        (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GemmaTokenizer", **NAMES, **settings})
    return folder
