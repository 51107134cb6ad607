"""What decoding takes on a mesh of devices that are not there: image, prompt, and a token after it.

The programs are those of `mmtune.decoding`, compiled as a plan compiles a training step: for a few layers, and the
difference counted for all others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmtune.decoding.buckets import bucket, power_of_two
from mmtune.decoding.engine import Prefix, encode, prefill, write
from mmtune.decoding.sampling import GREEDY
from mmtune.model import Model
from mmtune.models.linear import NO_ADAPTER, Adapter
from mmtune.models.modules import in_vision
from mmtune.models.spec import ModelSpec
from mmtune.planning.compiled import Compiled, abstract, abstract_model, costs_of
from mmtune.planning.plan import extended
from mmtune.recipe import Recipe
from mmtune.sharding.table import Row, itemsize, layout_rows

_END = 1  # id of the token that ends an answer: of no account here


@dataclass(frozen=True)
class Sizes:
    """Of a batch, as decoding pads it.

    Attributes:
        rows: Prompts at once.
        prompt: Text tokens of a prompt; those of its picture come on top.
        new: Tokens that are written.
    """

    rows: int
    prompt: int
    new: int


@dataclass(frozen=True)
class Decoding:
    """What decoding takes on each device.

    Attributes:
        sizes: Of the batch.
        programs: What the compiler says, by name: "image" (of models that see), "prompt", and "token", of whose loop
            one round is counted.
        cache: Bytes of keys and values.
        rows: The layout of every weight.
        seeing: Bytes of the vision tower and what is adapted of it, which "prompt" and "token" have no need of.
    """

    sizes: Sizes
    programs: dict[str, Compiled]
    cache: int
    rows: tuple[Row, ...]
    seeing: int

    @property
    def weights(self) -> int:
        """Bytes of the model, its adapter included."""
        return sum(row.bytes for row in self.rows)

    @property
    def total(self) -> float:
        """Bytes in use at most: of the program that takes most, with the weights that it does not use itself."""
        unused = {"image": self.weights - self.seeing, "prompt": self.seeing, "token": self.seeing}
        return max(one.total + unused[name] for name, one in self.programs.items())

    @property
    def token_bytes(self) -> float:
        """Bytes that a token moves at least: weights and cache are read once, and what other devices sent."""
        return self.weights - self.seeing + self.cache + self.programs["token"].exchanged


def plan_decoding(
    spec: ModelSpec, recipe: Recipe, prompt: int, new: int, on_step: Callable[[str], None] = lambda _: None
) -> Decoding:
    """Returns the plan of decoding under the distribution that is set.

    Args:
        spec: The model.
        recipe: Batch size, adapter, precision and quantisation.
        prompt: Text tokens of a prompt.
        new: Most tokens of an answer.
        on_step: Told what is being done.
    """
    sizes = Sizes(power_of_two(recipe.batch_size), bucket(prompt), bucket(new))
    on_step("laying out every weight")
    model = abstract_model(spec, recipe, recipe.precision)
    rows = layout_rows([*jax.tree.leaves(model.variables), *(model.lora.variables if model.lora else ())])
    seeing = layout_rows([*jax.tree.leaves(model.variables["vision"]), *_adapter_of_tower(model)])
    found: dict[ModelSpec, Programs] = {}

    def measure(name: str, part: str) -> Compiled:
        def costs(one: ModelSpec) -> Compiled:
            if one not in found:
                found[one] = Programs(one, recipe, sizes)
            return costs_of(found[one].compiled(name))

        return extended(spec, costs, on_step, f"the {name}", [part])

    costs = {"prompt": measure("prompt", "text"), "token": measure("token", "text")}
    if spec.vision is not None:
        costs = {"image": measure("image", "vision"), **costs}
    held = next(iter(found.values()))
    layers = spec.text.num_layers / held.model.spec.text.num_layers
    return Decoding(sizes, costs, round(held.cache_bytes() * layers), tuple(rows), sum(row.bytes for row in seeing))


class Programs:
    """The programs of a model without weights, compiled when they are asked for.

    To be used under the distribution that lays the weights out.

    Args:
        spec: The model.
        recipe: Adapter, precision and quantisation.
        sizes: Of the batch.
    """

    def __init__(self, spec: ModelSpec, recipe: Recipe, sizes: Sizes):
        self.model = abstract_model(spec, recipe, recipe.precision)
        self._sizes = sizes
        self._dtype = jnp.dtype(recipe.precision)
        self._weights = jax.tree.map(abstract, self.model.variables)
        self._adapter = _abstract_adapter(self.model)
        self._done: dict[str, Any] = {}

    def compiled(self, name: str) -> Any:
        """Returns the program "image", "prompt" or "token"."""
        if name not in self._done:
            make = {"image": self._image, "prompt": self._prompt, "token": self._token}[name]
            self._done[name] = make().compile()
        return self._done[name]

    def prefix(self) -> Prefix:
        """Returns what the prompt leaves for the first token, as it lies on the devices."""
        program = self.compiled("prompt")
        return jax.tree.map(
            lambda one, place: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=place),
            program.out_info,
            program.output_shardings,
        )

    def cache_bytes(self) -> int:
        """Returns the bytes of all keys and values on each device."""
        kept = self.prefix().cache
        return sum(
            math.prod(one.sharding.shard_shape(one.shape)) * itemsize(str(one.dtype))
            for one in (*kept.keys, *kept.values)
        )

    def _image(self) -> Any:
        vision = self.model.spec.vision
        assert vision is not None  # asked of models that see
        images = jax.ShapeDtypeStruct((self._sizes.rows, vision.image_size, vision.image_size, 3), np.uint8)
        return encode.lower(self._weights, self.model.spec, images, self._adapter, dtype=self._dtype)

    def _prompt(self) -> Any:
        spec, rows = self.model.spec, self._sizes.rows
        features = None
        if spec.vision is not None:
            features = jax.ShapeDtypeStruct((rows, spec.image_tokens, spec.text.hidden_dim), self._dtype)
        ids = jax.ShapeDtypeStruct((rows, self._sizes.prompt), np.int32)
        lengths = jax.ShapeDtypeStruct((rows,), np.int32)
        return prefill.lower(
            self._weights, spec, features, ids, lengths, self._adapter, new=self._sizes.new, dtype=self._dtype
        )

    def _token(self) -> Any:
        keys = jax.eval_shape(jax.vmap(jax.random.key), jax.ShapeDtypeStruct((self._sizes.rows,), np.uint32))
        return write.lower(
            self._weights,
            self.model.spec,
            self.prefix(),
            self._adapter,
            keys,
            jax.ShapeDtypeStruct((), np.int32),
            None,
            sampler=GREEDY,
            new=self._sizes.new,
            ends=(_END,),
            pad=0,
        )


def _abstract_adapter(model: Model) -> Adapter:
    if model.lora is None:
        return NO_ADAPTER
    weights: Any = {
        path: {name: abstract(variable) for name, variable in named.items()} for path, named in model.lora.table.items()
    }
    return Adapter(weights, model.lora.config.scale)


def _adapter_of_tower(model: Model) -> list[Any]:
    table = model.lora.table if model.lora else {}
    return [variable for path, named in table.items() if in_vision(path) for variable in named.values()]
