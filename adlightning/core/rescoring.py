"""A trained detector scored otherwise than it was trained to be: what may be changed, and what comes of it.

Arguments that no step of training sees, such as how long ADGAN searches, are chosen anew without a new fit. The
threshold is the exception that goes along: it belongs to the scores that it was fitted to.
"""

from __future__ import annotations

import copy
import inspect
import math
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adlightning.core.messages import nearest
from adlightning.core.parts import described, known_class
from adlightning.core.thresholds import ThresholdRule, fit_threshold

if TYPE_CHECKING:
    from adlightning.core.scored import ScoredModule

THRESHOLD = "threshold"


def arguments_of_scores(cls: type[ScoredModule]) -> tuple[str, ...]:
    """Names of the constructor's arguments that scores and verdicts alone depend on."""
    return (*cls.scoring_arguments, THRESHOLD)


def with_scoring(cls: type[ScoredModule], trained: Mapping[str, Any], scoring: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a trained detector, in plain values, with others for its scores.

    Args:
        cls: its class.
        trained: arguments by name, as a checkpoint has them.
        scoring: arguments to change, those of parts by `search.n_steps`; a part may be the name of a class beside the
            trained one's.

    Raises:
        ValueError: an argument that there is not, or that training depends on.
    """
    changed = copy.deepcopy(dict(trained))
    for place, value in scoring.items():
        name, *inner = place.split(".")
        if name not in (own := arguments_of_scores(cls)):
            what = (
                f"{cls.__name__} was trained with it" if name in trained else f"{cls.__name__} has no argument {name}"
            )
            raise ValueError(f"{place} cannot be chosen when scoring, since {what}: choose among {', '.join(own)}")
        _set(changed, [name, *inner], described(value), place)
    return changed


def require_known_threshold(detector: ScoredModule) -> None:
    """Refuse another rule for the same scores where there are no samples to fit it to.

    Raises:
        ValueError: a rule that takes other scores than those of the held-out normals, which the detector keeps.
    """
    if detector.rescored and _same_scores(detector.rescored) and not math.isfinite(detector.threshold.item()):
        rule, kept = detector.threshold_rule, len(detector.held_out_scores)
        if rule.of_normals and (reason := rule.refusal(kept)) and kept:
            raise ValueError(reason)
        raise ValueError(
            f"{detector.rescored[0]} needs the samples that a threshold is fitted to: `test` has them, here "
            "threshold=FixedThreshold threshold.value=... gives one"
        )


def _same_scores(differences: list[str]) -> bool:
    return all(text.startswith(THRESHOLD) for text in differences)


def _set(arguments: dict[str, Any], path: list[str], value: Any, place: str) -> None:
    name, *inner = path
    if name not in arguments:
        near = nearest(name, arguments)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"{place}: there is no {name}, there are {', '.join(arguments)}{hint}")
    if not inner:
        arguments[name] = _beside(arguments[name], value, place)
        return
    part = arguments[name]
    if not isinstance(part, dict):
        raise ValueError(f"{place} cannot be set: {name} is {part!r}, which has no arguments")
    _set(part.get("init_args", part), inner, value, place)


def _beside(trained: Any, value: Any, place: str) -> Any:
    """A part by the name of a class in the module of the trained one, with its defaults; any other value as it is.

    A rule for the threshold may be one of ours wherever the trained one is from. Raises ValueError where there is no
    such class.
    """
    if not (isinstance(trained, dict) and isinstance(value, str) and isinstance(trained.get("class_path"), str)):
        return value
    own = trained["class_path"].rpartition(".")[0]
    modules = [own, ThresholdRule.__module__] if place == THRESHOLD else [own]
    paths = [value] if "." in value else [f"{module}.{value}" for module in modules]
    path = next(filter(_is_class, paths), None)
    if path is None:
        there = [name for module in modules for name in _classes(module)]
        near = nearest(value, there)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"{place}: there is no {value}, there are {', '.join(dict.fromkeys(there))}{hint}")
    parameters = inspect.signature(known_class(place, path, object)).parameters.values()
    defaults = {each.name: described(each.default) for each in parameters if each.default is not each.empty}
    return {"class_path": path, "init_args": defaults}


def _is_class(path: str) -> bool:
    try:
        return not inspect.isabstract(known_class("class_path", path, object))
    except ValueError:
        return False


def _classes(module: str) -> list[str]:
    """Public classes that a module defines."""
    there = vars(sys.modules[module]) if module in sys.modules else {}
    classes = {name: each for name, each in there.items() if inspect.isclass(each) and each.__module__ == module}
    return [name for name, each in classes.items() if not (name.startswith("_") or inspect.isabstract(each))]


def differences(trained: Any, now: Any, place: str = "") -> Iterator[str]:
    """Where plain arguments differ from those of training, in words: `search.n_steps=20 (trained with 5)`."""
    if isinstance(trained, dict) and isinstance(now, dict) and trained.get("class_path") == now.get("class_path"):
        for key in trained.keys() | now.keys():
            inner = place if key == "init_args" else f"{place}.{key}".lstrip(".")
            yield from differences(trained.get(key), now.get(key), inner)
    elif trained != now:
        yield f"{place}={_short(now)} (trained with {_short(trained)})"


def _short(value: Any) -> Any:
    """A part by the name of its class."""
    return value["class_path"].rpartition(".")[2] if isinstance(value, dict) and "class_path" in value else value


def take_other_scores(detector: ScoredModule, differences: list[str]) -> None:
    """Note what a detector scores by now; its threshold was fitted to other scores, and is known where it is given.

    Where the scores are the same, so are those of held-out normals, and a rule for them gives its threshold.
    """
    detector.rescored = sorted(differences)
    if not differences:
        return
    if not _same_scores(differences):
        detector.held_out_scores = detector.held_out_scores[:0]
    rule, held_out = detector.threshold_rule, detector.held_out()
    enough = rule.of_normals and len(held_out) and not rule.refusal(len(held_out))
    detector.threshold.fill_(fit_threshold(rule, held_out) if rule.is_given or enough else math.nan)
