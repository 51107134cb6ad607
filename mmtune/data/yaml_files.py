"""Reading YAML files of strangers: bounded before anything is built from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.data.confinement import read_text
from mmtune.errors import DataError

if TYPE_CHECKING:
    import yaml

_MOST_CHARACTERS = 4_000_000
_MOST_NODES = 1_000_000


def load_yaml(file: Path) -> Any:
    """Returns the content of a YAML file (UTF-8, with or without a byte order mark) made of plain values.

    Aliases are counted as often as they are used, so that a few lines cannot stand for billions of values.

    Raises:
        DataError: When it is no YAML (with the line), has more than a million values, or is nested too deep.
        OSError, UnicodeDecodeError: When it cannot be read.
    """
    import yaml

    text = read_text(file)
    if len(text) > _MOST_CHARACTERS:
        raise DataError(f"{file}: expected at most {_MOST_CHARACTERS:,} characters of YAML, found {len(text):,}")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and _size(node, {}) > _MOST_NODES:
            raise DataError(f"{file}: expected at most {_MOST_NODES:,} values, but its aliases stand for more")
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DataError(f"{file}:{line}: expected YAML, but {error.problem}; repair the file") from error
    except yaml.YAMLError as error:
        raise DataError(f"{file}: expected YAML, but {error}; repair the file") from error
    except (RecursionError, ValueError) as error:  # too deep, an alias within itself, or a value such as 2024-99-99
        raise DataError(f"{file}: expected plain YAML; {error}") from error


def _size(node: "yaml.Node", known: dict[int, int | None]) -> int:
    """Returns how many values a node stands for, aliases written out."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return 1
    place = id(node)
    if place in known:
        size = known[place]
        if size is None:
            raise ValueError("an alias stands within what it stands for")
        return size
    known[place] = None
    pairs = node.value if isinstance(node, yaml.MappingNode) else [(item,) for item in node.value]
    size = 1 + sum(_size(part, known) for pair in pairs for part in pair)
    known[place] = size
    return size
