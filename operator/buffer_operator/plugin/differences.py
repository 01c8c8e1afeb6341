"""What differs between two objects, leaf by leaf. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from buffer_operator.kube.drift import covers
from buffer_operator.kube.kinds import Json

Path = tuple[str, ...]


class Difference(NamedTuple):
    """One leaf; None stands for a value that is not there."""

    path: Path
    before: Any
    after: Any


def differences(before: object, after: object, path: Path = ()) -> Iterator[Difference]:
    """Yield the leaves that differ; lists whose entries have names are compared by them."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key), after.get(key), (*path, key))
    elif _by_name(before) is not None and _by_name(after) is not None:
        yield from differences(_by_name(before), _by_name(after), path)
    elif isinstance(after, dict) and before is None:
        for key in sorted(after):
            yield from differences(None, after[key], (*path, key))
    elif before != after and not covers(after, before):
        yield Difference(path, before, after)


def ours(wanted: Json, found: Json | None) -> list[Difference]:
    """Return what applying an object changes in the one that is there: fields of others do not count."""
    return [one for one in differences(_like(wanted, found), wanted) if one.after is not None]


def replaced(before: Json, path: Path, value: object) -> Json:
    """Return an object with one leaf set, or taken away where the value is None."""
    key, *rest = path
    if rest:
        return {**before, key: replaced(before.get(key) or {}, tuple(rest), value)}
    others = {name: old for name, old in before.items() if name != key}
    return others if value is None else {**others, key: value}


def shown(value: object) -> str:
    """Return a value in a few characters."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _by_name(value: object) -> Json | None:
    if not isinstance(value, list) or not value:
        return None
    named = [one["name"] for one in value if isinstance(one, dict) and isinstance(one.get("name"), str)]
    return dict(zip(named, value, strict=True)) if len(named) == len(value) == len(set(named)) else None


def _like(wanted: object, found: object) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Return the part of what is found that the wanted object speaks of."""
    if isinstance(wanted, dict):
        return {key: _like(value, found.get(key)) for key, value in wanted.items()} if isinstance(found, dict) else None
    if isinstance(wanted, list) and isinstance(found, list):
        names, others = _by_name(wanted), _by_name(found)
        if names is not None and others is not None:
            return [_like(one, others[name]) for name, one in names.items() if name in others]
        if len(wanted) == len(found):
            return [_like(one, other) for one, other in zip(wanted, found, strict=True)]
    return found
