"""What a model is taught: the loss, and the tokens of prompts and answers."""

from importlib.metadata import version
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.fidelity.finding import Finding, versioned
from benchmarks.fidelity.models import SIDE, Question, by_transformers, made, saved, weights_of

_ROW = 64


def default_loss() -> Finding:
    """Keras divides the sum by all positions of the batch, padding and prompts included."""
    import jax.numpy as jnp
    import keras_hub

    from mmtune.data.batch import Row, collate
    from mmtune.models.hf_load import load_checkpoint
    from mmtune.models.scorer import target_logits
    from mmtune.recipe import Optimizer
    from mmtune.training.loss import weighted_loss

    rng = np.random.default_rng(0)
    prompt = rng.integers(3, 250, 6).tolist()
    answers = [rng.integers(3, 250, length).tolist() for length in (3, 12)]
    picture = rng.uniform(-1, 1, (SIDE, SIDE, 3)).astype(np.float32)
    model = made("paligemma")
    truth = -float(np.mean([by_transformers(model, Question((*prompt,), (*answer,), picture)) for answer in answers]))
    with saved(model) as folder:
        backbone, spec, _ = load_checkpoint(folder, "float32")

    ids, response = np.zeros((2, _ROW + 1), np.int32), np.zeros((2, _ROW + 1), np.int32)
    for row, answer in enumerate(answers):
        whole = [*prompt, *answer]
        ids[row, : len(whole)], response[row, len(prompt) : len(whole)] = whole, 1
    inputs = {"token_ids": ids, "padding_mask": (ids > 0).astype(np.int32), "response_mask": response}
    inputs = {name: array[:, :-1] for name, array in inputs.items()} | {"images": np.stack([picture] * 2)}
    task: Any = keras_hub.models.PaliGemmaCausalLM(preprocessor=None, backbone=backbone)
    theirs = task.evaluate(inputs, ids[:, 1:], sample_weight=response[:, 1:], return_dict=True, verbose=0)["loss"]

    rows = [Row(prompt, [answer], [[1.0] * len(answer)], picture) for answer in answers]
    batch, labels = ({k: jnp.asarray(v) for k, v in part.items()} for part in collate(rows, spec.image_tokens, _ROW))
    ours = weighted_loss(target_logits(weights_of(backbone).tree, spec, batch), labels, Optimizer())
    return Finding(
        f"A PaliGemma learns an answer of 3 and one of 12 tokens in rows of {_ROW}: what is the loss (mean over an "
        "answer's tokens, then over answers)?",
        "KerasHub",
        version("keras-hub"),
        float(theirs),
        f"token by token in float64, from {versioned('transformers')}",
        truth,
        float(ours),
        tolerance=1e-4,
        places=4,
    )


def closing_newline() -> Finding:
    """PaliGemma's prompts end with a newline, which KerasHub's preprocessor leaves to the user."""
    import keras_hub
    from transformers import AutoProcessor

    import mmtune

    model = mmtune.load("tiny")
    tokenizer: Any = model.tokenizer
    prompts = ["caption en", "describe en", "detect cat ; dog", "answer en how many?", "ocr"]
    picture = np.zeros((120, 120, 3), np.uint8)
    newline = tokenizer.find("\n")
    truth = [[tokenizer.bos, *_pieces(tokenizer).encode(prompt), newline] for prompt in prompts]

    cutter: Any = keras_hub.models.PaliGemmaTokenizer(proto=tokenizer.proto)
    preprocess = keras_hub.models.PaliGemmaCausalLMPreprocessor(tokenizer=cutter, sequence_length=_ROW)
    given = preprocess.generate_preprocess({"images": np.stack([picture] * len(prompts)), "prompts": prompts})
    masks = np.asarray(given["padding_mask"]).astype(bool)
    theirs = [row[mask].tolist() for row, mask in zip(np.asarray(given["token_ids"]), masks, strict=True)]
    with TemporaryDirectory() as out:
        processor: Any = AutoProcessor.from_pretrained(model.export(f"{out}/tiny"))
        image = processor.image_token_id
        processed = [processor(images=picture, text=f"<image>{prompt}")["input_ids"][0] for prompt in prompts]
    reference = [[token for token in ids if token != image] for ids in processed]

    def right(found: list[list[int]]) -> int:
        return sum(ids == wanted for ids, wanted in zip(found, truth, strict=True))

    return Finding(
        f"Of {len(prompts)} prompts of PaliGemma, how many become the tokens that it was trained with: the beginning, "
        "the prompt, a newline?",
        "KerasHub",
        version("keras-hub"),
        right(theirs),
        versioned("transformers"),
        right(reference),
        right([tokenizer.prompt(prompt) for prompt in prompts]),
    )


def _pieces(tokenizer: Any) -> Any:
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_proto=tokenizer.proto)
