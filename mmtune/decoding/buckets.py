"""The sizes that lengths and counts are padded to, so that few programs are compiled."""


def bucket(length: int) -> int:
    """Returns the length that sequences are padded to: 16, 32, 64, then multiples of 64."""
    return next((size for size in (16, 32) if length <= size), -(-length // 64) * 64)


def table_size(n: int) -> int:
    """Returns the size that a grammar's tables are padded to: 8, 32, 128, 512, then powers of two."""
    return next((size for size in (8, 32, 128, 512) if n <= size), power_of_two(n))


def power_of_two(n: int) -> int:
    """Returns the smallest power of two that is at least n (n from 1)."""
    return 1 << (n - 1).bit_length()
