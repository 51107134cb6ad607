"""Measurements that are run by hand; the README's table names the command behind each figure."""
