"""Meshes and layouts."""
