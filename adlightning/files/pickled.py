"""What the pickle in a checkpoint would do, found without doing it.

`torch.load(weights_only=True)` runs no code of others, but calls what it knows with any arguments, such as `bytearray`
with a number that fills the memory, and hashes tuples of any depth, which ends the interpreter.
"""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass
from typing import Any

MOST_STEPS, DEEPEST_TUPLE = 4_000_000, 20

_TO_CALL = {
    *("collections OrderedDict", "collections Counter", "torch Size", "torch device"),
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"),
}
_TO_NAME = re.compile(r"torch [A-Za-z0-9]+Storage|torch (bool|u?int\d+|b?float\d+|complex\d+)")
_PLAIN = {
    *("NONE", "NEWFALSE", "NEWTRUE", "BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"),
    *("LONG1", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"),
}
_TAKEN = {"APPEND": 1, "SETITEM": 2}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Item:
    """A value on the stack: how deep its tuples are nested, and what it names or was made by."""

    depth: int = 0
    named: str = ""
    made_by: str = ""


_VALUE = _Item()


def require_plain_pickle(data: bytes) -> None:
    """Refuse a pickle that does more than build plain values, and tensors of what is stored beside it.

    Raises:
        ValueError: it calls or names something else, nests tuples too deeply, takes too many steps, or is damaged.
    """
    try:
        _go_through(data)
    except (IndexError, KeyError) as error:
        raise ValueError(f"its pickle is damaged: {error!r}") from None


def _go_through(data: bytes) -> None:
    """Every step, as torch takes them, with what matters of each value."""
    stack: list[_Item] = []
    below: list[list[_Item]] = []
    memo: dict[int, _Item] = {}
    argument: Any  # a number or text, as the step has it
    for step, (operation, argument, _) in enumerate(pickletools.genops(data)):
        name = operation.name
        if step > MOST_STEPS:
            raise ValueError(f"its pickle takes more than {MOST_STEPS} steps")
        if name in _PLAIN:
            stack.append(_VALUE)
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in ("TUPLE", "APPENDS", "SETITEMS"):
            items, stack = stack, below.pop()
            if name == "TUPLE":
                stack.append(_tuple(items))
        elif name == "EMPTY_TUPLE":
            stack.append(_tuple([]))
        elif name in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(_tuple(items))
        elif name in _TAKEN:
            for _ in range(_TAKEN[name]):
                stack.pop()
        elif name == "GLOBAL":
            if argument not in _TO_CALL and not _TO_NAME.fullmatch(argument):
                raise ValueError(f"its pickle names {argument[:100]!r}, which no checkpoint of a detector does")
            stack.append(_Item(named=argument))
        elif name == "BINPERSID":
            stack[-1] = _VALUE
        elif name == "REDUCE":
            stack.pop()
            called = stack.pop().named
            if called not in _TO_CALL:
                raise ValueError(f"its pickle calls {called or 'a value'!r}, which no checkpoint of a detector does")
            stack.append(_Item(made_by=called))
        elif name == "BUILD":
            stack.pop()
            if stack[-1].made_by != "collections OrderedDict":
                raise ValueError("its pickle sets attributes of something other than an ordered mapping")
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"its pickle has a step {name}, which no checkpoint of a detector has")


def _tuple(items: list[_Item]) -> _Item:
    depth = 1 + max((item.depth for item in items), default=0)
    if depth > DEEPEST_TUPLE:
        raise ValueError(f"its tuples must be nested at most {DEEPEST_TUPLE} levels")
    return _Item(depth)
