"""Runs: plan, fit, checkpoints, logs."""
