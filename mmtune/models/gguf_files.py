"""llama.cpp's GGUF files of Llama, Gemma and Gemma 2: their tensors under Hugging Face's names, made wide again."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.errors import ModelError, UsageError, unknown_name
from mmtune.models.gguf_fields import check_fields, linear_factor
from mmtune.models.gguf_header import GgufHeader, Packed, read_header
from mmtune.models.hf_names import HEAD
from mmtune.models.safetensor_files import Place

SUFFIX = ".gguf"
FAMILIES = ("llama", "gemma", "gemma2")

_TOP = {"token_embd": "embed_tokens.weight", "output_norm": "norm.weight", "output": HEAD}
_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_SECOND = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
# Modules of Llama whose rows llama.cpp keeps in pairs, and which field tells their heads.
_PAIRED = {"q_proj": "attention.head_count", "k_proj": "attention.head_count_kv"}
# Llama 3.1 and 3.2 stretch long wavelengths; the file holds the factor of each, not the rule, which is one of these.
_ROPE_FACTORS = "rope_freqs.weight"
_STRETCHES = (8.0, 32.0)
_LOW, _HIGH, _TRAINED = 1.0, 4.0, 8192


class GgufFile(Mapping[str, Place]):
    """The tensors of a GGUF file by Hugging Face's names, as `TensorFiles` gives those of a checkpoint.

    Args:
        path: The file.

    Raises:
        ModelError: When it is no GGUF file, is cut, or holds another family.
        UsageError: When the package gguf is not installed.
    """

    def __init__(self, path: Path):
        self.path = path
        header = _header(path)
        self.fields = header.fields
        family = self.fields.get("general.architecture")
        if family not in FAMILIES:
            raise ModelError(f"{path}: {unknown_name('architecture', str(family), FAMILIES)}")
        self.family = str(family)
        self._tensors = {self._named(tensor.name): tensor for tensor in header.tensors}
        self._factors = self._tensors.pop(_ROPE_FACTORS, None)

    def __getitem__(self, name: str) -> Place:
        tensor = self._tensors[name]
        return Place(self.path, "F32", tensor.shape, tensor.start)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def bits(self) -> float:
        """Of a weight, in the matrix that is packed the most."""
        matrices = [tensor for tensor in self._tensors.values() if len(tensor.shape) > 1]
        return min((8 * math.prod(tensor.rows) / math.prod(tensor.shape) for tensor in matrices), default=32.0)

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """Returns a tensor as Hugging Face's checkpoints hold it, in float32.

        Args:
            name: The tensor's.
            rows: Which rows to return.

        Raises:
            ModelError: When it is packed in a way that the package gguf does not know, or holds no numbers.
        """
        tensor, module = self._tensors[name], name.split(".")[-2]
        # Rows in pairs are put back among all of them; of other tensors only what is asked for is made wide.
        paired = _PAIRED.get(module) if self.family == "llama" else None
        array = self._wide(tensor, slice(None) if paired or len(tensor.shape) == 1 else rows)
        if paired:
            return _halves(array, self.count(paired))[rows]
        if self.family != "llama" and name.endswith("norm.weight"):
            array = array - 1  # llama.cpp keeps what is multiplied by
        return array[rows] if array.ndim == 1 else array

    def _wide(self, tensor: Packed, rows: slice) -> np.ndarray:
        """Returns rows of a tensor as they stand, in float32."""
        import gguf

        first, last, _ = rows.indices(tensor.rows[0])
        count, kind = max(0, last - first), gguf.GGMLQuantizationType(tensor.kind)
        shape = tensor.rows if len(tensor.rows) == 1 else (count, *tensor.rows[1:])
        a_row = math.prod(tensor.rows[1:])
        packed = np.fromfile(self.path, np.uint8, math.prod(shape), offset=tensor.start + first * a_row).reshape(shape)
        try:
            array = gguf.dequantize(packed, kind).astype(np.float32, copy=False)
        except NotImplementedError as error:
            raise ModelError(f"{self.path}: the tensor {tensor.name} is packed as {kind.name}") from error
        if not np.isfinite(array).all():
            raise ModelError(f"{self.path}: the tensor {tensor.name} holds NaN or infinite numbers")
        return array

    def count(self, key: str, default: int | None = None) -> int:
        """Returns a field of the family that is a whole number from 1.

        Raises:
            ModelError: When it is none, or is not there and there is no default.
        """
        found = self.value(key, default)
        if type(found) is not int or not 0 < found < 2**31:
            raise ModelError(
                f"{self.path}: {self.family}.{key}: expected a whole number from 1, found {str(found)[:80]}"
            )
        return found

    def value(self, key: str, default: Any = None) -> Any:
        """Returns a field of the family, such as "block_count".

        Raises:
            ModelError: When it is not there and there is no default.
        """
        found = self.fields.get(f"{self.family}.{key}", default)
        if found is None:
            raise ModelError(f"{self.path}: expected the field {self.family}.{key}, found none")
        return float(str(np.float32(found))) if isinstance(found, float) else found

    def config(self) -> dict[str, Any]:
        """Returns what Hugging Face's `config.json` would say."""
        heads, hidden, layers = (self.count(key) for key in ("attention.head_count", "embedding_length", "block_count"))
        head_dim = self.count("attention.key_length", hidden // heads)
        config = {
            "model_type": self.family,
            "vocab_size": self["embed_tokens.weight"].shape[0] if "embed_tokens.weight" in self else 0,
            "hidden_size": hidden,
            "intermediate_size": self.count("feed_forward_length"),
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": self.count("attention.head_count_kv", heads),
            "head_dim": head_dim,
            "rms_norm_eps": self.value("attention.layer_norm_rms_epsilon"),
            "rope_theta": self.value("rope.freq_base", 10_000.0),
            "rope_scaling": self._scaling(head_dim),
        }
        query_width = hidden // heads if self.family == "gemma2" and layers == 46 else head_dim
        check_fields(self.path, self.family, self.fields, head_dim, query_width**-0.5)
        if self.family == "gemma2":
            config |= {
                # As llama.cpp has it: the file does not say.
                "query_pre_attn_scalar": query_width,
                "sliding_window": self.count("attention.sliding_window", 4096),
                "attn_logit_softcapping": self.value("attn_logit_softcapping", 50.0),
                "final_logit_softcapping": self.value("final_logit_softcapping", 30.0),
            }
        return config

    def _scaling(self, head_dim: int) -> dict[str, Any] | None:
        """Returns `rope_scaling` of Hugging Face's `config.json`."""
        factor = linear_factor(self.path, self.family, self.fields)
        if self._factors is None:
            return None if factor == 1 else {"rope_type": "linear", "factor": factor}
        if factor != 1:
            raise ModelError(
                f"{self.path}: {self.family}.rope.scaling.factor = {factor:g} is not supported with the tensor "
                f"{_ROPE_FACTORS}"
            )
        return self._stretch(self._factors, head_dim)

    def _stretch(self, factors: Packed, head_dim: int) -> dict[str, Any]:
        """Returns Llama 3.1's rule, of which the file holds what it makes of each wavelength."""
        found = self._wide(factors, slice(None)).reshape(-1)
        theta = self.value("rope.freq_base", 10_000.0)
        if type(theta) not in (int, float) or not 0 < theta < 1e30:
            raise ModelError(f"{self.path}: {self.family}.rope.freq_base: expected a number above 0, found {theta!r}")
        for factor in _STRETCHES:
            if found.shape == (head_dim // 2,) and np.allclose(found, _stretched(head_dim, theta, factor), rtol=1e-3):
                rule = {"rope_type": "llama3", "factor": factor, "low_freq_factor": _LOW, "high_freq_factor": _HIGH}
                return rule | {"original_max_position_embeddings": _TRAINED}
        raise ModelError(f"{self.path}: the tensor {_ROPE_FACTORS} is that of no known Llama 3")

    def _named(self, name: str) -> str:
        parts = name.split(".")
        if name == _ROPE_FACTORS:
            return name
        if len(parts) == 2 and parts[0] in _TOP:
            return _TOP[parts[0]]
        modules = _LAYER | (_SECOND if self.family == "gemma2" else {})
        if len(parts) == 4 and parts[0] == "blk" and parts[2] in modules and parts[3] == "weight":
            return f"layers.{parts[1]}.{modules[parts[2]]}.weight"
        raise ModelError(f"{self.path}: the tensor {name} belongs to no {self.family} that is known here")


def _header(path: Path) -> GgufHeader:
    try:
        import gguf
    except ImportError as error:
        raise UsageError(f"{path}: GGUF files need the package gguf: pip install gguf") from error
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    return read_header(path, {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()})


def _halves(array: np.ndarray, heads: int) -> np.ndarray:
    """Puts rows back that llama.cpp has in pairs: the first half of each head's turns with its second half."""
    return array.reshape(heads, -1, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def _stretched(head_dim: int, theta: float, factor: float) -> np.ndarray:
    """Returns what Llama 3.1's rule makes of each wavelength, as a factor."""
    wavelengths = 2 * np.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = (_TRAINED / wavelengths - _LOW) / (_HIGH - _LOW)
    between = 1 / ((1 - smooth) / factor + smooth)
    return np.where(wavelengths < _TRAINED / _HIGH, 1, np.where(wavelengths > _TRAINED / _LOW, factor, between))
