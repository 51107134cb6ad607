"""Tools for those who work on mmtune; not installed."""
