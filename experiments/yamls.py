"""YAML files of one's own: a mistake in one is said with the file and the line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invertune.regular import require_regular

if TYPE_CHECKING:
    import yaml

# Fields that hold a name or a path: what YAML reads as a number or a switch there is a text.
TEXTS = ("runs_dir", "name", "target_label", "project", "group", "id", "path", "images_path",
         "labels_path", "cache", "image", "caption", "label", "sha256")  # fmt: skip
_SCALARS = ("str", "int", "float", "bool")
_VALUES = (*_SCALARS, "null", "timestamp", "seq", "map", "merge")
_TAG = "tag:yaml.org,2002:"
_MOST_VALUES = 100_000  # a config of a thousand classes has some thousands


def read_yaml(path: Path, loader: Any = None) -> Any:
    """Return the content of a YAML file; None for an empty one.

    Args:
        path: The file.
        loader: One of PyYAML's loaders, or of a class made of one; the fastest safe one if None.

    Raises:
        ValueError: If it is no YAML, or not what a config may hold, such as an alias inside what it
            stands for; names the file and the line.
        OSError: If it cannot be read.
    """
    import yaml

    loader, text = loader or getattr(yaml, "CSafeLoader", yaml.SafeLoader), ""
    require_regular(path)
    try:
        text = path.read_text(encoding="utf-8")
        reader = loader(text)
        node = reader.get_single_node()
        if node is None:
            return None
        _visit(node, {})
        return reader.construct_document(node)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: it is no text in UTF-8") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}{_fault(error, text)}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: it is nested too deep") from error


def _fault(error: Any, text: str) -> str:
    """Return what PyYAML says in one line that begins with the place: ``, line 3: ...``."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    before = text[: getattr(error, "position", 0)]  # of a sign that no YAML may hold
    line = before.count("\n") + 1 if mark is None else mark.line + 1
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return f", line {line}: {' '.join(said.split())}"


def refuse(node: yaml.Node, problem: str) -> None:
    """Raise what a loader raises, at the line of a node."""
    from yaml.constructor import ConstructorError

    raise ConstructorError(None, None, problem, node.start_mark)


def _children(node: Any) -> Iterator[Any]:
    for child in node.value if isinstance(node.value, list) else ():
        yield from child if isinstance(child, tuple) else (child,)


def _visit(node: Any, known: dict[int, int | None]) -> int:
    """Look at a node and all below it, each once: an alias is the node that it stands for.

    Args:
        node: Of a document.
        known: What `_visit` returned for a node, by its id; None while it is below it.

    Returns:
        How many values it stands for, with all that its aliases repeat.

    Raises:
        ConstructorError: If one is not what a config may hold or holds itself, or if there are
            more values than any config has.
    """
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            refuse(node, "an alias stands inside what it stands for")
        return size or 0
    _check(node)
    known[id(node)] = None
    size = 1 + sum(_visit(child, known) for child in _children(node))
    if size > _MOST_VALUES:
        refuse(node, f"its aliases stand for more than {_MOST_VALUES:,} values")
    known[id(node)] = size
    return size


def _check(node: Any) -> None:
    """Look at one node; the values of `TEXTS` become texts.

    Raises:
        ConstructorError: If it is not what a config may hold.
    """
    if node.tag.removeprefix(_TAG) not in _VALUES:
        refuse(node, f"a config holds plain values, lists and mappings, no {node.tag}")
    if node.tag != f"{_TAG}map" or not isinstance(node.value, list):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        if key.tag.removeprefix(_TAG) not in (*_SCALARS, "merge"):
            refuse(key, f"a key is a text, got {_shown(key)}")
        if key.value in lines and key.tag != f"{_TAG}merge":
            refuse(key, f"{key.value!r} stands there twice, in line {lines[key.value]} too")
        lines[key.value] = key.start_mark.line + 1
        if key.value == "defaults" and value.tag != f"{_TAG}seq":
            refuse(value, f"defaults is a list of choices, got {_shown(value)}")
        if key.value in TEXTS and value.tag.removeprefix(_TAG) in _SCALARS:
            value.tag = f"{_TAG}str"


def _shown(node: Any) -> str:
    return repr(node.value) if isinstance(node.value, str) else "a list or a mapping"
