"""Task adapters: one file a task; installed as `mmtune.tasks`."""
