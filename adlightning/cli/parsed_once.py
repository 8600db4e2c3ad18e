"""What was parsed before is not parsed again, by a process that fits a grid's cells."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from typing import Any

from jsonargparse import Namespace

_MOST = 2000
"""Parts that are remembered; a grid's cells have some ten of their own each."""


class ParsedBefore:
    """Parsers of verbs and parts of configurations, as they were parsed before.

    jsonargparse looks at each argument of a part several times, and at a part's part several times as often. A class
    that is defined anew under its old name would not be noticed, so that this is for the cells of a grid, whose code
    may not change.
    """

    def __init__(self) -> None:
        self.verbs: dict[str, Any] = {}
        self._parts: dict[Hashable, Hashable] = {}

    def part(self, parse: Callable[..., Namespace], how: Hashable, obj: Any, namespace: Namespace | None) -> Namespace:
        """What `parse(obj, namespace)` gives; values that are not plain, or refer to others, are parsed each time.

        Args:
            parse: parses a part's arguments.
            how: what the outcome depends on beside them.
            obj: the arguments.
            namespace: arguments that they change.
        """
        try:
            key = (how, _frozen(obj), _frozen(namespace))
        except _NotPlainError:
            return parse(obj, namespace)
        if key not in self._parts:
            parsed = parse(obj, namespace)
            with contextlib.suppress(_NotPlainError):
                if len(self._parts) >= _MOST:
                    self._parts.clear()
                self._parts[key] = _frozen(parsed)
            return parsed
        remembered: Namespace = _thawed(self._parts[key])
        return remembered


OF_CELLS = ParsedBefore()
"""Of all cells that this process fits."""

_active: ContextVar[ParsedBefore | None] = ContextVar("parsed_before", default=None)


def parsed_before() -> ParsedBefore | None:
    """What may be used of earlier parsing; None outside of :func:`parsing_once`."""
    return _active.get()


@contextlib.contextmanager
def parsing_once(before: ParsedBefore) -> Iterator[None]:
    """Parse equal parts once within, and those that were parsed before not at all."""
    token = _active.set(before)
    try:
        yield
    finally:
        _active.reset(token)


class _NotPlainError(Exception):
    """A value that may change, or that no copy can be made of."""


def _frozen(value: Any) -> Any:
    """Plain values as a key, which tells 1, 1.0 and True, and 0.0 and -0.0 apart.

    Raises:
        _NotPlainError: another value, such as a path to a file that was read, or text with an interpolation.
    """
    kind = type(value)
    if kind is str and "${" in value:
        raise _NotPlainError
    if value is None or kind in (str, bool, int):
        return kind, value
    if kind is float:
        return kind, repr(value)
    if kind in (list, tuple):
        return kind, tuple(_frozen(item) for item in value)
    if kind in (dict, Namespace):
        items = value if kind is dict else vars(value)
        return kind, tuple((_frozen(key), _frozen(item)) for key, item in items.items())
    raise _NotPlainError


def _thawed(frozen: Any) -> Any:
    kind, value = frozen
    if kind in (list, tuple):
        return kind(_thawed(item) for item in value)
    if kind is dict:
        return {_thawed(key): _thawed(item) for key, item in value}
    if kind is Namespace:
        namespace = Namespace()  # type: ignore[no-untyped-call]
        vars(namespace).update((_thawed(key), _thawed(item)) for key, item in value)
        return namespace
    return float(value) if kind is float else value
