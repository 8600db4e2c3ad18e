"""What of a run's metrics.json a W&B run says, and under which names: pure functions of the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Report = Mapping[str, Any]

_CONFIGURED = (
    *("detector", "data", "input", "protocol", "selection", "seed", "split", "samples", "threshold"),
    *("precision", "device", "devices", "versions"),
)
"""What describes a run rather than measures it: W&B groups and filters runs by it."""

LONGEST_NAME, LONGEST_TAG = 128, 64
"""Characters that W&B takes."""


def summary_of(report: Report) -> dict[str, Any]:
    """Every value of a report by one name each, as in W&B's summary: no value is left out, none is rounded.

    Names are the report's keys with `/` between them, but for the test sets, which are named as the logged metrics are:
    `test/auroc`, `test/auroc/low` and `test/auroc/high` (its interval), `test/at_threshold/recall`; of several test
    sets `test/mnist/auroc`.
    """
    rest = {key: value for key, value in report.items() if key != "test_sets"}
    flat = dict(_leaves("", rest))
    tests = report.get("test_sets", {})
    for name, test in tests.items():
        prefix = "test" if len(tests) == 1 else f"test/{name}"
        flat |= _leaves(prefix, {key: value for key, value in test.items() if key != "metrics"})
        for metric, entry in test["metrics"].items():
            low, high = entry["interval"]
            flat |= {f"{prefix}/{metric}": entry["value"]}
            flat |= {f"{prefix}/{metric}/low": low, f"{prefix}/{metric}/high": high}
    return flat


def config_of(report: Report) -> dict[str, Any]:
    """What of a report describes the run, as it stands there: W&B's configuration has it under `run`."""
    return {key: report[key] for key in _CONFIGURED if key in report}


def group_of(report: Report) -> str:
    """Method and data: what the seeds of an experiment have in common."""
    return f"{report['detector']} {report['data']}"[:LONGEST_NAME]


def name_of(report: Report, trial: str | None = None) -> str:
    """Method, data, normal class and seed in a line; of a sweep's trial with its id, which names its run folder."""
    end = f", seed {report['seed']}" + (f" {trial}" if trial else "")
    return group_of(report)[: LONGEST_NAME - len(end)] + end


def tags_of(report: Report, others: Iterable[str] = ()) -> list[str]:
    """Method, data, normal class, seed, protocol, and that a selection has seen tested anomalies.

    Protocols are `clean`, `transductive`, `inductive` and `leaky`; such selections `oracle` and `oracle-ood`. Others
    come first.
    """
    source, _, rest = str(report["data"]).partition(", ")
    tags = [report["detector"], source, rest, f"seed {report['seed']}", report["protocol"]]
    if "oracle" in report["selection"]:
        tags.append(report["selection"])
    return list(dict.fromkeys(str(tag)[:LONGEST_TAG] for tag in (*others, *tags) if tag))


def _leaves(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield place, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{place}/{key}" if place else str(key), inner)
