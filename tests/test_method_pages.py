"""docs/methods/: a page for each detector, whose tables are those that the code and the measured rows give today."""

from __future__ import annotations

import re
import sys
from dataclasses import fields, is_dataclass
from inspect import signature
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import choose  # noqa: E402
from method_pages import argument_table, detectors, result_table  # noqa: E402
from pages import PAGES, blocks  # noqa: E402

HEADINGS = ["What it is", "When to use it", "Arguments", "Paper against code", "Results", "Card of the miniature"]
TEXTS = {page.name: page.read_text("utf-8") for page in sorted(PAGES.glob("*.md"))}
INDEX = (PAGES.parent / "methods.md").read_text("utf-8")
OF_DETECTORS = {name: text for name, text in TEXTS.items() if any(blocks("arguments", text))}


def classes_of(text: str) -> list[str]:
    """The detectors that a page is about."""
    return [name for name, _ in blocks("arguments", text)]


def test_every_detector_has_a_page_and_a_line_of_the_index() -> None:
    named = [name for text in OF_DETECTORS.values() for name in classes_of(text)]
    assert sorted(named) == sorted(detectors())
    for page, text in OF_DETECTORS.items():
        for name in classes_of(text):
            assert re.search(rf"\| \[[^]]+\]\(methods/{page}\) \|.*`{name}`", INDEX), name


@pytest.mark.parametrize("page", OF_DETECTORS)
def test_the_sections_are_the_same_on_every_page(page: str) -> None:
    assert re.findall(r"^## (.+)$", TEXTS[page], re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("page", OF_DETECTORS)
def test_arguments_are_those_of_the_constructor(page: str) -> None:
    for name, content in blocks("arguments", TEXTS[page]):
        assert content == argument_table(name), f"{name}: run python benchmarks/method_pages.py"


@pytest.mark.parametrize("page", OF_DETECTORS)
def test_results_are_those_of_the_rows(page: str) -> None:
    for methods, content in blocks("results", TEXTS[page]):
        assert content == result_table(methods), f"{methods}: run python benchmarks/method_pages.py"
        assert content.count("\n") > 2, f"there are no rows of {methods}"


@pytest.mark.parametrize("page", OF_DETECTORS)
def test_cards_are_of_configurations_that_there_are(page: str) -> None:
    cards = list(blocks("card", TEXTS[page]))
    assert cards
    for config, content in cards:
        assert (ROOT / "configs" / config).exists(), config
        assert f"configs/{config}" in content
        assert re.search(r"\| AUROC \| \d+\.\d %", content), f"{config}: run python benchmarks/cards.py"


@pytest.mark.parametrize("page", OF_DETECTORS)
def test_options_named_on_a_page_are_arguments_of_its_detectors(page: str) -> None:
    parameters = {
        name: parameter.default
        for cls in classes_of(TEXTS[page])
        for name, parameter in signature(detectors()[cls]).parameters.items()
    }
    for name, inner in re.findall(r"`(?:--)?model\.(\w+)(?:\.(\w+))?", TEXTS[page]):
        assert name in parameters, f"model.{name}"
        default = parameters[name]
        if inner and is_dataclass(default):
            assert inner in {field.name for field in fields(default)}, f"model.{name}.{inner}"


def test_the_tables_of_which_method_are_those_of_the_rows() -> None:
    text = choose.PAGE.read_text("utf-8")
    assert choose.page(text) == text, "python benchmarks/choose.py"
