"""Writing answers: prefill, the compiled loop, samplers, beams, constraints, scores."""
