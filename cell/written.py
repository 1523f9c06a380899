"""Values written into a YAML file as a person keeps it: comments, order and everything else stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from cell.interfaces import ConfigError

Path = tuple[str | int, ...]


def with_values(text: str, values: Mapping[Path, Any]) -> str:
    """Return the text of a YAML file with values in the place of those that its keys had, or with keys added.

    Parameters
    ----------
    text : str
    values : mapping of tuple of str or int to value
        Values by the keys that lead to them, or the places of a list.

    Raises
    ------
    ConfigError
        The file says it in a way that cannot be changed so, such as by an anchor.
    """
    wanted = yaml.safe_load(text)
    for path, value in values.items():
        _place(wanted, path, value)
        text = _with_value(text, path, value)
    if yaml.safe_load(text) != wanted:
        raise ConfigError(
            f"{', '.join('.'.join(map(str, path)) for path in values)} cannot be written where the file says them"
        )
    return text


def _place(content: Any, path: Path, value: Any) -> None:
    for key in path[:-1]:
        # A copy: what an anchor shares must not change in both places.
        inside = content[key] if isinstance(key, int) else content.get(key, {})
        content[key] = list(inside) if isinstance(inside, list) else dict(inside)
        content = content[key]
    content[path[-1]] = value


def _with_value(text: str, path: Path, value: Any) -> str:
    node: Any = yaml.compose(text)
    for depth, key in enumerate(path):
        if isinstance(key, int):
            node = node.value[key]
            continue
        found = next((child for name, child in node.value if name.value == key), None)
        if found is None:
            for rest in reversed(path[depth + 1 :]):
                value = {rest: value}
            return _inserted(text, node, key, value, root=depth == 0)
        node = found
    if isinstance(value, dict) and isinstance(node, yaml.MappingNode) and not node.flow_style:
        for key, each in value.items():
            text = _with_value(text, (*path, key), each)
        return text
    return text[: node.start_mark.index] + _flow(value) + text[node.end_mark.index :]


def _inserted(text: str, node: yaml.MappingNode, key: str | int, value: Any, *, root: bool) -> str:
    if root:
        lines = [f"  {name}: {_flow(each)}" for name, each in value.items()] if isinstance(value, dict) else []
        block = "\n".join([f"{key}:", *lines]) if lines else f"{key}: {_flow(value)}"
        return f"{text.rstrip()}\n\n{block}\n"
    first = node.value[0][0].start_mark
    between = ", " if node.flow_style else "\n" + " " * first.column
    return f"{text[: first.index]}{key}: {_flow(value)}{between}{text[first.index :]}"


def _flow(value: Any) -> str:
    said: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"))
    return said.removesuffix("...\n").strip()
