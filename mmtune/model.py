"""A model as users hold it: a KerasHub backbone, its tokenizer, and an adapter on it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from mmtune.codecs.chat import template_of
from mmtune.codecs.grammar import Automaton
from mmtune.data.pixels import to_square
from mmtune.decoding.generate import generate
from mmtune.decoding.outputs import as_output
from mmtune.decoding.requests import Decoded, Request, Weights
from mmtune.decoding.sampling import GREEDY, Sampler
from mmtune.decoding.score import score
from mmtune.decoding.stream import EVERY, stream
from mmtune.errors import RecipeError, UsageError
from mmtune.models.build import build_backbone
from mmtune.models.fingerprint import Fingerprint, fingerprint
from mmtune.models.linear import NO_ADAPTER, Adapter
from mmtune.models.lora import LoraWeights, Merge
from mmtune.models.lora_config import LoRA
from mmtune.models.quantized import wide_array
from mmtune.models.quantized_tree import move, quantized_tree, scheme_of
from mmtune.models.spec import ModelSpec, read_spec
from mmtune.models.tokenizer import Tokenizer
from mmtune.models.weights import Tree, model_variables, values
from mmtune.records import WHOLE, Output, Part

if TYPE_CHECKING:
    from mmtune.predicting import Answer


@dataclass(frozen=True)
class Setup:
    """What a fine-tuned model was taught.

    Attributes:
        task: Name of the task.
        classes: Its class names.
        options: Its options.
        max_tokens: Longest answer that it was taught, end of sequence included.
    """

    task: str
    classes: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    max_tokens: int = 0


@dataclass(frozen=True)
class _Source:
    """What loading a model's name gives, and what has become of it: its adapter baked in, its weights altered."""

    spec: ModelSpec
    tokenizer: Tokenizer
    lora: LoraWeights | None
    baked: bool = False
    altered: str = ""


class Model:
    """A backbone that answers.

    Args:
        backbone: A KerasHub backbone of PaliGemma, Gemma or Llama 3.
        tokenizer: Its vocabulary.
        name: What a user loads it by; kept as `base` where a run or an adapter on it takes another name. Under an
            adapter `base` is what loads the weights that it lies on.
        precision: Dtype of activations and products: "float32" or "bfloat16".
        setup: What it was fine-tuned for, if it was.
        spec: How it computes, where its checkpoint says more than KerasHub's classes can; None: as the backbone does.
        variables: Its weights where some are quantised; None: the backbone's.
        bits: Of a weight in the GGUF file that it came from; None: it came from none.
    """

    def __init__(
        self,
        backbone: Any,
        tokenizer: Tokenizer,
        *,
        name: str,
        precision: str = "float32",
        setup: Setup | None = None,
        spec: ModelSpec | None = None,
        variables: Tree | None = None,
        bits: float | None = None,
    ):
        self.backbone = backbone
        self.spec = read_spec(backbone) if spec is None else spec
        self.tokenizer = tokenizer
        self.base = name
        self.precision = precision
        self.setup = setup
        self.bits = bits
        self.variables = model_variables(backbone) if variables is None else variables
        self.lora: LoraWeights | None = None
        self.replaced: tuple[str, ...] = ()  # weights of the base that belong to the adapter
        self._merge: Merge | None = None
        self.known_as(name)
        self._under = self._source

    def known_as(self, name: str) -> None:
        """Notes that loading a name gives the model as it is now."""
        self.name = name
        self._source = _Source(self.spec, self.tokenizer, self.lora)

    @property
    def altered(self) -> str:
        """What was done to the model that loading its name does not repeat, as a clause; "" where nothing was.

        Values that somebody assigned to single variables are not seen.
        """
        source = self._source
        if source.altered:
            return source.altered
        if self.spec != source.spec:
            return "its description (spec) was changed"
        if self.tokenizer is not source.tokenizer:
            return "its tokenizer was replaced"
        if self.lora is not None and self.lora is not source.lora and not self.lora.fresh:
            return "the values of its adapter were set by hand"
        return ""

    @altered.setter
    def altered(self, clause: str) -> None:
        self._source = replace(self._source, altered=clause)

    @property
    def dtype(self) -> str:
        """Dtype in memory of the weights, of a quantised model of those that are not quantised."""
        return str(self.variables["text"]["norm"].dtype)

    @property
    def quantized(self) -> str | None:
        """The scheme that the base weights are quantised by, "int8" or "int4", if they are."""
        return scheme_of(self.variables)

    def quantize(self, scheme: str) -> None:
        """Quantises the base weights, which train no more; an adapter stays as it is.

        Args:
            scheme: "int8" (a scale an output) or "int4" (a scale for 32 weights).

        Raises:
            UsageError: When they are quantised already.
        """
        if self.quantized:
            raise UsageError(f"{self.name}: its weights are quantised already, by {self.quantized}")
        self.unmerge()
        if self._source.baked:
            self.altered = "an adapter was baked into its weights before they were quantised"
        self._rebuild(scheme)

    def widen(self) -> None:
        """Makes quantised weights wide again: what they mean, not what they were before."""
        if self.quantized:
            self._rebuild(None)
            self.altered = "its quantised weights were made wide"

    def cast(self, dtype: str) -> None:
        """Holds the weights in another dtype; each lies on the devices as before.

        Args:
            dtype: "float32", or a narrower one, to which they are rounded.

        Raises:
            UsageError: When they are quantised.
        """
        if self.quantized:
            raise UsageError(f"{self.name}: its weights are quantised, by {self.quantized}; make them wide first")
        if all(str(variable.dtype) == dtype for variable in self.backbone.weights):
            return
        self.unmerge()
        self.altered = f"its weights were cast from {self.dtype} to {dtype}"
        backbone = build_backbone(self.spec, dtype, self.backbone.name)
        for old, new in zip(self.backbone.weights, backbone.weights, strict=True):
            new.assign(old.value)
        self.backbone, self.variables = backbone, model_variables(backbone)

    def copy(self) -> "Model":
        """Returns the model with wide weights of its own; the adapter is the same."""
        other = Model(
            self.backbone,
            self.tokenizer,
            name=self.name,
            precision=self.precision,
            setup=self.setup,
            spec=self.spec,
            variables=self.variables,
            bits=self.bits,
        )
        other._rebuild(None)
        other.base, other.lora, other.replaced = self.base, self.lora, self.replaced
        other._source, other._under = self._source, self._under
        if self.quantized and not self.altered:
            other.altered = "its quantised weights were made wide"
        return other

    def bare(self) -> "Model":
        """Returns a model without an adapter on the very same weights: adapters of one base need its memory once.

        Neither of the two may be merged, baked or trained in full, which would change the weights of both.
        """
        self.unmerge()
        return Model(
            self.backbone,
            self.tokenizer,
            name=self.name if self.lora is None else self.base,
            precision=self.precision,
            spec=self.spec,
            variables=self.variables,
            bits=self.bits,
        )

    def _rebuild(self, scheme: str | None) -> None:
        backbone = build_backbone(self.spec, self.backbone.dtype_policy.variable_dtype, self.backbone.name)
        variables = model_variables(backbone)
        if scheme is not None:
            variables = quantized_tree(self.spec, variables, scheme)
        move(self.spec, self.variables, variables)
        self.backbone, self.variables = backbone, variables

    def untie(self) -> None:
        """Gives a Llama whose vocabulary head is its embeddings a head of its own, with the same numbers.

        Raises:
            UsageError: For another family: KerasHub's Gemma has no head.
        """
        if self.spec.family != "llama":
            raise UsageError(f"{self.name}: its vocabulary head is always its embeddings")
        if self.spec.text.tied:
            text = self.variables["text"]
            self.variables = self.variables | {"text": text | {"head": wide_array(text["embedding"]).T}}
            self.spec = replace(self.spec, text=replace(self.spec.text, tied=False))
            self._rebuild(scheme_of(self.variables))

    @property
    def image_size(self) -> int | None:
        """Side of the square picture in pixels, None for text models."""
        return self.spec.vision.image_size if self.spec.vision else None

    def add_lora(self, config: LoRA, seed: int = 0) -> LoraWeights:
        """Puts a fresh adapter on the model, in place of any other one.

        Where there was none, the model under its present name is what the adapter belongs on: `base`.

        Raises:
            RecipeError: When its configuration makes no sense.
            UsageError: When the adapter that is on it has replaced weights of the base.
        """
        if problems := config.problems():
            raise RecipeError(problems)
        self.drop_lora()
        self.base, self._under = self.name, self._source
        self.lora = LoraWeights(config, self.spec, self.variables, seed)
        return self.lora

    def drop_lora(self) -> None:
        """Takes the adapter off; the base stays as it was, and the model has its name.

        Raises:
            UsageError: When the adapter has replaced weights of the base.
        """
        self.unmerge()
        self._check_replaced()
        if self.lora is not None:
            self.lora, self.name, self._source = None, self.base, self._under

    def _check_replaced(self) -> None:
        if self.replaced:
            raise UsageError(
                f"{self.name}: its adapter has replaced weights of the base ({', '.join(self.replaced)[:200]}), which "
                "are not kept: bake it, or load the base itself"
            )

    @property
    def merged(self) -> bool:
        """Whether the adapter is folded into the base weights."""
        return self._merge is not None

    def merge(self) -> None:
        """Folds the adapter into the base weights: the same outputs without its extra products.

        Raises:
            UsageError: When the weights are quantised, which would lose what the adapter learned.
        """
        if self.lora is not None and self.quantized:
            raise UsageError(f"{self.name}: an adapter cannot become a part of quantised weights; make them wide first")
        if self.lora is not None and self._merge is None:
            self._merge = Merge(self.lora, self.variables)

    def unmerge(self) -> None:
        """Undoes `merge`; the base gets its very bytes back."""
        if self._merge is not None:
            self._merge.undo()
            self._merge = None

    def bake(self) -> None:
        """Makes the adapter a part of the base for good and takes it off; a quantised base is quantised anew.

        The base has the model's own name from then on.
        """
        if self.lora is None:
            return
        self._source = replace(self._source, baked=True, altered=self.altered)
        scheme = self.quantized
        if scheme:
            self.unmerge()
            self._rebuild(None)
        self.merge()
        self.base, self.replaced = self.name, ()
        self.lora = self._merge = None
        if scheme:
            self._rebuild(scheme)

    def fingerprint(self) -> Fingerprint:
        """Returns what tells the base, without its adapter, from any other model; all processes must ask."""
        self.unmerge()
        return fingerprint(self.base, self.spec, self.variables, self.tokenizer, self.bits)

    def weights(self) -> Weights:
        """Returns the current weights as decoding and scoring take them.

        An answer ends at the end of sequence, and at that of a turn where the vocabulary has a chat's control tokens.
        """
        adapter: Adapter = NO_ADAPTER
        if self.lora is not None and self._merge is None:
            adapter = self.lora.adapter()
        tokenizer = self.tokenizer
        return Weights(
            values(self.variables),
            self.spec,
            adapter,
            jnp.dtype(self.precision),
            tokenizer.eos,
            tokenizer.pad,
            template_of(tokenizer).ends(tokenizer),
        )

    def pixels(self, picture: Any, part: Part = WHOLE) -> np.ndarray | None:
        """Returns a picture as the model takes it, (size, size, 3) uint8; None for text models.

        Args:
            picture: A PIL image, an array (height, width, 3) uint8, a `Picture`, or a file name.
            part: What of it.
        """
        vision = self.spec.vision
        if vision is None or picture is None:
            return None
        return to_square(picture, vision.image_size, vision.resample, vision.draft, part)

    def generate(
        self,
        images: "Sequence[Any] | Any | None",
        prompts: Sequence[str] | str,
        max_tokens: int = 64,
        *,
        sampler: Sampler = GREEDY,
        grammars: Sequence[Automaton | None] | None = None,
        batch_size: int = 16,
        rows: Sequence[int] | None = None,
        closed: bool = True,
        on_done: Callable[[int], None] = lambda _: None,
    ) -> list[Output]:
        """Answers prompts about images.

        Args:
            images: One a prompt (the same object may stand several times and is then encoded once); None for text
                models.
            prompts: Prefixes without their closing newline; in a chat all that was said, as its template writes it.
            max_tokens: Most tokens an answer may have, the one that ends it included.
            sampler: Greedy, sampling or beam search.
            grammars: For each prompt the automaton its answer must follow, or None.
            batch_size: Most prompts at once.
            rows: For each prompt the number that picks the sampler's random numbers; None: 0, 1, 2, ...
            closed: False where prompts are texts to go on with as they stand, without a closing newline.
            on_done: Called with the number of answers so far.

        Returns:
            For each prompt the text, its tokens and their log-probabilities.

        Raises:
            UsageError: When there are not as many images, grammars or rows as prompts.
        """
        requests = self._requests(images, prompts, grammars, rows, closed)
        weights = self.weights()
        decoded = generate(
            weights, requests, max_tokens=max_tokens, sampler=sampler, batch_size=batch_size, on_done=on_done
        )
        return [as_output(answer, self.tokenizer, weights.ends) for answer in decoded]

    def stream(
        self,
        images: "Sequence[Any] | Any | None",
        prompts: Sequence[str] | str,
        max_tokens: int = 64,
        *,
        sampler: Sampler = GREEDY,
        grammars: Sequence[Automaton | None] | None = None,
        batch_size: int = 16,
        rows: Sequence[int] | None = None,
        closed: bool = True,
        every: int = EVERY,
    ) -> Iterator[list[Output]]:
        """Answers prompts about images and yields all answers as far as they are written.

        The last ones are those of `generate`, token by token.

        Args:
            images, prompts, max_tokens, grammars, batch_size, rows, closed: As for `generate`.
            sampler: Greedy or sampling; a beam knows its answer only at the end.
            every: Tokens between two yields.

        Yields:
            For each prompt the text, its tokens and their log-probabilities so far.

        Raises:
            UsageError: As `generate` does, and for beams.
        """
        requests = self._requests(images, prompts, grammars, rows, closed)
        weights = self.weights()
        answers = [Output("")] * len(requests)
        limits = [max_tokens] * len(requests)
        grown = stream(weights, requests, max_tokens=limits, sampler=sampler, batch_size=batch_size, every=every)
        for some in grown:
            for place, answer in some.items():
                answers[place] = as_output(answer, self.tokenizer, weights.ends)
            yield list(answers)

    def score(
        self, images: "Sequence[Any] | Any | None", prompts: Sequence[str] | str, texts: Sequence[str] | str
    ) -> list[Output]:
        """Returns the log-probability of each token of the given answers, by one teacher-forced pass.

        Args:
            images, prompts: As for `generate`.
            texts: The answer to each prompt.

        Raises:
            UsageError: When there are not as many images or texts as prompts.
        """
        requests = self._requests(images, prompts, None, None)
        texts = [texts] if isinstance(texts, str) else texts
        _check_count("text", texts, len(requests))
        targets = [[*self.tokenizer.encode(text), self.tokenizer.eos] for text in texts]
        logprobs = score(self.weights(), requests, targets)
        scored = [Decoded(tuple(ids), tuple(p)) for ids, p in zip(targets, logprobs, strict=True)]
        return [as_output(answer, self.tokenizer, (self.tokenizer.eos,)) for answer in scored]

    def predict(self, image: Any = None, *, task: str, prompt: str | None = None, **options: Any) -> "Answer":
        """Answers as a task does: parsed, scored and ready to be drawn; see `mmtune.predicting.predict`."""
        from mmtune.predicting import predict

        return predict(self, [image], task=task, prompt=prompt, **options)[0]

    def export(self, out: str | Path, format: str = "hf", dtype: str | None = None) -> Path:  # noqa: A002 - the command's
        """Writes the model for other libraries and returns the folder; see `mmtune.exporting.export`."""
        from mmtune.exporting import export

        return export(self, out, format, dtype)

    def _requests(
        self,
        images: Any,
        prompts: Sequence[str] | str,
        grammars: Sequence[Automaton | None] | None,
        rows: Sequence[int] | None,
        closed: bool = True,
    ) -> list[Request]:
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if images is None or isinstance(images, str | Path) or not isinstance(images, Sequence):
            images = [images] * len(prompts)
        rules = [None] * len(prompts) if grammars is None else grammars
        numbers = range(len(prompts)) if rows is None else rows
        for name, given in (("image", images), ("grammar", rules), ("row", numbers)):
            _check_count(name, given, len(prompts))
        pixels: dict[int, np.ndarray | None] = {}
        for image in images:
            if id(image) not in pixels:
                pixels[id(image)] = self.pixels(image)
        return [
            Request(self.tokenizer.prompt(prompt, closed), pixels[id(image)], rule, row)
            for row, image, prompt, rule in zip(numbers, images, prompts, rules, strict=True)
        ]


def _check_count(name: str, given: Sequence[Any], prompts: int) -> None:
    if len(given) != prompts:
        raise UsageError(f"expected one {name} a prompt, got {len(given)} {name}s and {prompts} prompts")
