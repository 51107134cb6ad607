"""Logits of a batch with a prefix, a suffix, padding and pictures, by us and by transformers."""

import jax.numpy as jnp
import numpy as np
import torch
from peer_models import IMAGE_TOKEN

from mmtune.models.forward import decode_layers, embed, logits
from mmtune.models.linear import NO_ADAPTER
from mmtune.models.modules import text_path
from mmtune.models.scorer import segment_mask
from mmtune.models.spec import read_spec
from mmtune.models.vision import encode_images
from mmtune.models.weights import model_variables, values

LENGTH, PREFIX = 40, 6


def token_ids(rows=2, length=LENGTH):
    return np.random.default_rng(1).integers(0, 250, (rows, length)).astype("int32")


def images(rows=2):
    return np.random.default_rng(2).uniform(-1, 1, (rows, 28, 28, 3)).astype("float32")


def segments(rows=2, length=LENGTH, lengths=(LENGTH, LENGTH - 7)):
    """A prefix, one suffix, and padding after it."""
    out = np.ones((rows, length), np.int32)
    out[:, :PREFIX] = 0
    for row, valid in zip(out, lengths, strict=True):
        row[valid:] = -1
    return out


def our_logits(backbone, ids, segment_ids, pictures=None, adapter=NO_ADAPTER, spec=None):
    """Returns (rows, text, vocabulary) logits as a JAX array."""
    spec, weights = spec or read_spec(backbone), values(model_variables(backbone))
    x = embed(weights["text"], spec.text, jnp.asarray(ids), jnp.float32)
    if spec.vision is not None:
        features = encode_images(weights["vision"], spec.vision, jnp.asarray(pictures), adapter)
        x = jnp.concatenate([features, x], axis=1)
    hidden, _ = decode_layers(
        weights["text"],
        spec.text,
        x,
        positions=jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2]),
        mask=segment_mask(jnp.asarray(segment_ids), spec.image_tokens, spec.text.bidirectional_prefix),
        path=text_path(spec),
        adapter=adapter,
    )
    return logits(weights["text"], spec.text, hidden)[:, spec.image_tokens :]


def their_tensor(model, ids, segment_ids, pictures=None):
    """Returns (rows, text, vocabulary) logits as a tensor with its gradient."""
    valid = torch.tensor(segment_ids >= 0, dtype=torch.long)
    if pictures is None:
        return model(input_ids=torch.tensor(ids, dtype=torch.long), attention_mask=valid).logits
    count = model.config.text_config.num_image_tokens
    front = torch.ones((len(ids), count), dtype=torch.long)
    out = model(
        input_ids=torch.cat([IMAGE_TOKEN * front, torch.tensor(ids, dtype=torch.long)], 1),
        pixel_values=torch.tensor(pictures.transpose(0, 3, 1, 2)),
        attention_mask=torch.cat([front, valid], 1),
        token_type_ids=torch.cat([0 * front, torch.tensor(segment_ids != 0, dtype=torch.long)], 1),
    )
    return out.logits[:, count:]


def their_logits(model, ids, segment_ids, pictures=None):
    """Returns (rows, text, vocabulary) logits as a NumPy array."""
    with torch.no_grad():
        return their_tensor(model, ids, segment_ids, pictures).numpy()


def difference(ours, theirs, segment_ids):
    """Largest difference over tokens that are no padding, as a share of the largest logit."""
    alive = segment_ids >= 0
    ours = np.asarray(ours)
    return float(np.abs(ours[alive] - theirs[alive]).max() / np.abs(theirs[alive]).max())
