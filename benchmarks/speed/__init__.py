"""Step, decoding, memory and start-up beside KerasHub's own `fit` and `generate`, and transformers with PEFT."""
