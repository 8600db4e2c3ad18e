"""Blocks of docs/methods/*.md that a script writes: between `<!-- NAME: WORDS -->` and `<!-- end of NAME -->`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs/methods"


def _blocks(name: str) -> re.Pattern[str]:
    return re.compile(rf"<!-- {name}: (.+?) -->\n(.*?)<!-- end of {name} -->\n", re.DOTALL)


def blocks(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Words and content of each block of this name in a page."""
    for found in _blocks(name).finditer(text):
        yield found[1], found[2]


def filled(name: str, text: str, content: Callable[[str, str], str]) -> str:
    """The page with each block of this name written anew, from its words and what it held."""
    return _blocks(name).sub(
        lambda found: f"<!-- {name}: {found[1]} -->\n{content(found[1], found[2])}<!-- end of {name} -->\n", text
    )


def fill_all(name: str, content: Callable[[str, str], str]) -> None:
    """Write the blocks of this name in all pages anew."""
    for page in sorted(PAGES.glob("*.md")):
        old = page.read_text("utf-8")
        new = filled(name, old, content)
        if new != old:
            page.write_text(new, "utf-8")
            print(page.relative_to(ROOT))
