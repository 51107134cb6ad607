"""The files that a model's folder may hold, by name: what the loaders read is what is fetched from the hub."""

# Of a Hugging Face checkpoint.
CONFIG, GENERATION = "config.json", "generation_config.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
"""How pictures are prepared: as transformers wrote it up to version 4, and as version 5 does."""
JSON, SENTENCEPIECE = "tokenizer.json", "tokenizer.model"
"""The vocabulary, in either form."""
SETTINGS, FORMER_SETTINGS = "tokenizer_config.json", "special_tokens_map.json"
"""Both name the vocabulary's control tokens; what the first says counts."""
CHAT_TEMPLATE = "chat_template.jinja"
QUANTIZED = "quantized.safetensors"
"""Weights in few bits, which only mmtune reads."""

# Of a PEFT adapter.
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter.safetensors", "adapter_model.safetensors")
"""In our runs, and as PEFT names it."""

# Of a Keras preset, which has a `config.json` too.
PRESET_WEIGHTS, PRESET_INDEX = "model.weights.h5", "model.weights.json"
PRESET_METADATA, PRESET_IMAGES, PRESET_PREPROCESSOR = "metadata.json", "image_converter.json", "preprocessor.json"
PRESET_ASSETS = "assets/tokenizer"
PRESET_PIECES = f"{PRESET_ASSETS}/vocabulary.spm"
PRESET_VOCABULARY, PRESET_MERGES = f"{PRESET_ASSETS}/vocabulary.json", f"{PRESET_ASSETS}/merges.txt"
"""The vocabulary: SentencePiece, or byte pairs in two files."""

WEIGHTS = ("*.safetensors", "*.h5")
FETCHED = ("*.json", "*.jinja", *WEIGHTS, SENTENCEPIECE, f"{PRESET_ASSETS}/*")
"""Patterns of all of the above, of shards, and of further settings; pickles and other libraries' weights are none."""
