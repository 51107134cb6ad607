"""Plans of trainings that need no devices: the real step, compiled ahead of time for a mesh of virtual ones."""
