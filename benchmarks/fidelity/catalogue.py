"""All findings by subject, in the order of the page. Needs none of the peers until a finding is called."""

from collections.abc import Callable

from benchmarks.fidelity import adapters, boxes, checkpoints, decoding, metrics, tokens, training
from benchmarks.fidelity.finding import Finding

Ask = Callable[[], Finding]

SUBJECTS: dict[str, tuple[Ask, ...]] = {
    "Pictures and boxes": (boxes.cropped_picture, boxes.cut_boxes, boxes.box_edges, boxes.box_labels),
    "Prompts, answers and the loss": (
        training.closing_newline,
        tokens.unasked_start,
        decoding.mixed_lengths,
        decoding.padded_by_its_end,
        decoding.untold_prefix,
        training.default_loss,
    ),
    "Checkpoints": (
        checkpoints.gemma2_27b_scale,
        checkpoints.paligemma2,
        checkpoints.llama_3_1_rope,
        checkpoints.llama_epsilon,
        checkpoints.gemma_rope,
        checkpoints.llama_untold_head,
        checkpoints.paligemma_448,
        checkpoints.paligemma_names,
        checkpoints.export_gemma2,
    ),
    "Adapters": (
        adapters.adapter_reloaded,
        adapters.adapter_exported,
        adapters.adapter_rank,
        adapters.adapter_size,
        adapters.adapter_places,
    ),
    "Vocabularies": (tokens.llama_split, tokens.gguf_digits),
    "Metrics": (metrics.coco_first_id, metrics.uncut_captions),
}

FINDINGS: dict[str, Ask] = {ask.__name__: ask for asks in SUBJECTS.values() for ask in asks}


def reason(ask: Ask) -> str:
    """Returns why the peer's answer is what it is: the finding's docstring."""
    return " ".join((ask.__doc__ or "").split())
