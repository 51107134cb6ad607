"""The field's own scores: pure, mergeable, no Keras."""
