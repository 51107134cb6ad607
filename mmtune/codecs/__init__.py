"""Text forms of boxes and masks, and the grammars of their targets."""
