from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

from adlightning.core.rules import (
    at_least,
    between,
    checks_arguments,
    each,
    finite,
    not_negative,
    or_none,
    positive,
    seed,
)

NAN, INFINITY = float("nan"), float("inf")


class Machine:
    """Something with rules."""

    argument_rules: ClassVar = {
        "speed": positive,
        "share": between(0, 1, "right"),
        "widths": each(at_least(1), least=1),
        "betas": each(between(0, 1, "left"), length=2),
        "bound": or_none(positive, "no bound"),
        "epochs": not_negative,
        "offset": finite,
        "start": seed,
    }

    def __init__(
        self,
        speed: float = 1.0,
        share: float = 0.5,
        widths: tuple[int, ...] = (4,),
        betas: tuple[float, ...] = (0.0, 0.9),
        bound: float | None = None,
        epochs: int = 0,
        offset: float = 0.0,
        start: int = 0,
        kind: Literal["up", "down"] | None = "up",
    ) -> None:
        self.made = True


checks_arguments(Machine)


class Faster(Machine):
    """Rules of the constructor that is called in the end hold as well."""

    argument_rules: ClassVar = {"gears": at_least(2)}

    def __init__(self, gears: int = 2, speed: float = 2.0) -> None:
        super().__init__(speed)


checks_arguments(Faster)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"speed": 0}, "speed must be positive and finite, got 0"),
        ({"speed": INFINITY}, "speed must be positive and finite, got inf"),
        ({"speed": NAN}, "speed must be positive and finite, got nan"),
        ({"speed": "fast"}, "speed must be positive and finite, got 'fast'"),
        ({"speed": None}, "speed must be positive and finite, got None"),
        ({"share": 0.0}, r"share must lie in \(0, 1\], got 0.0"),
        ({"share": NAN}, r"share must lie in \(0, 1\], got nan"),
        ({"widths": ()}, r"widths must hold at least 1, and each be at least 1, got \[\]"),
        ({"widths": (4, 0)}, r"widths must hold at least 1, and each be at least 1, got \[4, 0\]"),
        ({"betas": (0.5,)}, r"betas must hold 2 values, and each lie in \[0, 1\), got \[0.5\]"),
        ({"betas": [0.5, 1.0]}, r"betas must hold 2 values, and each lie in \[0, 1\), got \[0.5, 1.0\]"),
        ({"bound": -1.0}, "bound must be positive and finite, or null for no bound, got -1.0"),
        ({"epochs": -1}, "epochs must not be negative, got -1"),
        ({"offset": INFINITY}, "offset must be finite, got inf"),
        ({"start": 2**63}, r"start must lie in \[0, 2\^63\), got 9223372036854775808"),
        ({"kind": "left"}, "kind must be one of up, down, null, got 'left'"),
    ],
)
def test_an_argument_that_breaks_its_rule_is_named_with_rule_and_value(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Machine(**arguments)


def test_what_obeys_the_rules_is_made_and_kept_with_its_defaults() -> None:
    machine = Machine(share=1.0, bound=3.0, kind=None)
    assert machine.made
    assert vars(machine)["arguments"] == {
        **{"speed": 1.0, "share": 1.0, "widths": (4,), "betas": (0.0, 0.9), "bound": 3.0, "epochs": 0},
        **{"offset": 0.0, "start": 0, "kind": None},
    }


def test_the_rules_of_a_base_hold_and_the_arguments_are_of_the_class_itself() -> None:
    assert vars(Faster())["arguments"] == {"gears": 2, "speed": 2.0}
    with pytest.raises(ValueError, match="speed must be positive"):
        Faster(speed=-1)
    with pytest.raises(ValueError, match="gears must be at least 2, got 1"):
        Faster(gears=1)


def test_a_true_is_no_one_of_a_literal() -> None:
    class Counted:
        """Whole numbers by name."""

        def __init__(self, n: Literal[0, 1] = 0) -> None:
            self.n = n

    checks_arguments(Counted)
    with pytest.raises(ValueError, match="n must be one of 0, 1, got True"):
        Counted(True)  # type: ignore[arg-type]


def test_a_number_of_numpys_becomes_pythons_and_an_array_is_refused() -> None:
    made = Machine(speed=np.float32(2.0), epochs=np.int64(3))  # type: ignore[arg-type]
    assert (type(made.arguments["speed"]), type(made.arguments["epochs"])) == (float, int)  # type: ignore[attr-defined]
    for value in (torch.tensor(2.0), np.ones(1)):
        with pytest.raises(ValueError, match=r"speed must be a plain value .*, got a "):
            Machine(speed=value)  # type: ignore[arg-type]
