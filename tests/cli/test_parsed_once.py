"""Equal parts of configurations are parsed once, and what comes of them is the same as if they were parsed anew."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import Namespace

import adlightning as ad
from adlightning.benchmark.configuration import override
from adlightning.cli.parsed_once import ParsedBefore, parsing_once
from adlightning.core.parts import described
from adlightning.files.plain_yaml import read_yaml
from adlightning.networks import LeNetEncoder

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = ["deep_sad/digits", "ssad/digits", "ocsvm/digits", "adgan/digits", "drocc_lf/digits", "kde/digits"]


def made(name: str, **options: Any) -> tuple[Any, Any]:
    e = ad.experiment(name, {key.replace("__", "."): value for key, value in options.items()})
    return described(e.detector.arguments), vars(e.data)["normal_class"]


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_is_the_same_when_its_parts_were_parsed_before(name: str) -> None:
    alone = [made(name, data__normal_class=digit) for digit in (3, 4)]
    with parsing_once(ParsedBefore()):
        together = [made(name, data__normal_class=digit) for digit in (3, 4, 3, 4)]
    assert together == [*alone, *alone]


def test_what_comes_of_remembered_parts_is_nobody_elses() -> None:
    before, parsed = ParsedBefore(), Namespace({"widths": [4, 8], "part": {"init_args": {}}})  # type: ignore[no-untyped-call]
    for _ in range(3):  # the first is parsed, the others are remembered
        given = before.part(lambda obj, namespace: deepcopy(parsed), "how", {}, None)
        assert given == parsed
        given.widths.append(16)
        given.part["init_args"]["bias"] = True


@pytest.mark.parametrize("values", [(0, False), (0.0, -0.0), (1, 1.0), ("1", 1)])
def test_values_that_python_calls_equal_are_told_apart(values: tuple[Any, Any]) -> None:
    seen: list[Any] = []

    def parse(obj: Any, namespace: Any) -> Any:
        seen.append(obj["value"])
        return namespace

    before = ParsedBefore()
    for value in (*values, *values):
        before.part(parse, "how", {"value": value}, None)
    assert [repr(value) for value in seen] == [repr(value) for value in values]


def test_an_option_is_refused_in_the_same_words_after_a_good_one() -> None:
    def refused() -> str:
        with pytest.raises(ValueError, match="eta") as error:
            ad.experiment("deep_sad/digits", {"model.eta": "much"})
        return str(error.value)

    alone = refused()
    with parsing_once(ParsedBefore()):
        made("deep_sad/digits")
        assert [refused(), refused()] == [alone, alone]


def test_a_part_in_a_file_of_its_own_is_read_each_time(tmp_path: Path) -> None:
    part, experiment = tmp_path / "encoder.yaml", tmp_path / "mine.yaml"
    config = read_yaml((CONFIGS / "deep_sad/digits.yaml").read_text(encoding="utf-8"), "config")
    override(config, {"model.encoder": str(part)})
    experiment.write_text(yaml.safe_dump(config), encoding="utf-8")
    widths = []
    with parsing_once(ParsedBefore()):
        for width in (4, 5):
            part.write_text(
                f"class_path: adlightning.networks.LeNetEncoder\ninit_args: {{rep_dim: {width}}}\n", encoding="utf-8"
            )
            widths.append(made(str(experiment))[0]["encoder"]["init_args"]["rep_dim"])
    assert widths == [4, 5]


def test_a_part_defined_anew_under_its_name_is_seen_outside_of_a_grid() -> None:
    for default in (4, 5):

        class Mine(LeNetEncoder):
            def __init__(self, shape: tuple[int, ...], rep_dim: int = default) -> None:
                super().__init__(shape, rep_dim=rep_dim)

        Mine.__qualname__ = "Mine"  # as in a notebook, at the top
        globals()["Mine"] = Mine
        arguments, _ = made("deep_sad/digits", model__encoder={"class_path": f"{__name__}.Mine"})
        assert arguments["encoder"]["init_args"]["rep_dim"] == default
