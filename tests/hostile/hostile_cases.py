"""What the tests of hostile input share: how much is drawn, how files are damaged, and what an answer may be.

Whatever an input is, it works or ends in ValueError or OSError with a message. HOSTILE_EXAMPLES=2000 draws that many
inputs a test, other ones each time, in place of the few and always the same ones.
"""

from __future__ import annotations

import copy
import io
import os
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st

_ASKED = os.environ.get("HOSTILE_EXAMPLES")


def drawn(few: int) -> settings:
    """Settings of a property: so many examples, or as many as the environment asks for."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=int(_ASKED or few),
        derandomize=_ASKED is None,
        deadline=None,
        database=None,
        suppress_health_check=quiet,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )


def works_or_is_refused(work: Callable[[], object]) -> str | None:
    """The message where the input is refused, None where it works; any other error is the test's."""
    try:
        work()
    except (ValueError, OSError) as error:
        return str(error) or pytest.fail(f"{error!r} says nothing")
    return None


@st.composite
def damaged(draw: st.DrawFn, files: Sequence[bytes]) -> bytes:
    """One of the files with bits, bytes and whole numbers changed, parts cut out, doubled or put in."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, max(0, len(data) - 1)))
        change = draw(st.sampled_from(["bit", "byte", "number", "cut", "end", "insert", "copy"]))
        if change == "bit" and data:
            data[position] ^= 1 << draw(st.integers(0, 7))
        elif change == "byte" and data:
            data[position] = draw(st.integers(0, 255))
        elif change == "number":
            width = draw(st.sampled_from([2, 4, 8]))
            number = draw(st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]))
            order = draw(st.sampled_from(["little", "big"]))
            data[position : position + width] = (number % 2 ** (8 * width)).to_bytes(width, order)
        elif change == "cut":
            del data[position : position + draw(st.integers(1, 64))]
        elif change == "end":
            del data[position:]
        elif change == "insert":
            data[position:position] = draw(st.binary(min_size=1, max_size=16))
        else:
            other = draw(st.integers(0, max(0, len(data) - 1)))
            data[position : position + 16] = data[other : other + 16]
    return bytes(data)


def as_zip(members: Sequence[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members, whatever their names."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


def zeros_in_zip(name: str, head: bytes, mebibytes: int) -> bytes:
    """A small zip with one member: a head and so many MiB of zeros behind it."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        member.write(head)
        for _ in range(mebibytes):
            member.write(bytes(2**20))
    return target.getvalue()


ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 2**31, 10**30, 1e308, float("nan"), float("inf")),
    *("", "x", "\x00", "${oc.env:HOME}", "x" * 5000, b"bytes", [], [[]], {}, {"a": 1}, {1: 2}),
    *([1, 2, 3], ["a"], [10**6, 10**6], [0], [-1], {"class_path": "os.system"}),
]
"""Values that belong nowhere."""


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything inside nested mappings and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, inner in items for path in ((*above, key), *places(inner, (*above, key)))]


def put(value: Any, place: tuple[Any, ...], new: Any) -> None:
    """Replace what lies at a place."""
    *path, last = place
    for key in path:
        value = value[key]
    value[last] = copy.deepcopy(new)  # or it would lie in several places, and change with each of them
