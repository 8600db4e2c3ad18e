"""What a look found: what must be decided, and how the command that it proposes decides it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from adlightning.files.dialects import Given


@dataclass(frozen=True)
class Said:
    """What somebody has said of a table already: arguments of `TableData`, with the same names and defaults.

    `over_time` says that it is a table of sensors for `Windows`, of which `time_column` and `group_column` are
    arguments, and which takes numbers alone.
    """

    label_column: str | None = None
    name_column: str | None = None
    drop_columns: tuple[str, ...] = ()
    constant_features: str = "error"
    missing: str = "refuse"
    categorical: str = "refuse"
    dates: str = "refuse"
    normal_label: str | None = None
    anomaly_label: str | None = None
    separator: str = "auto"
    decimal: str = "auto"
    encoding: str = "auto"
    header: bool | str = "auto"
    time_column: str | None = None
    group_column: str | None = None
    over_time: bool = False

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Said:
        """Of a datamodule's arguments, of which those that a look has no use for are left aside."""
        known = {name: arguments[name] for name in (own.name for own in fields(cls)) if name in arguments}
        if (dropped := known.get("drop_columns")) is not None:
            known["drop_columns"] = tuple(dropped)
        else:
            known.pop("drop_columns", None)
        if isinstance(known.get("header"), str):
            known["header"] = {"true": True, "false": False}.get(known["header"].lower(), known["header"])
        return cls(**known)

    def given(self) -> Given:
        """How the file is written, as far as that is said. Raises ValueError."""
        return Given(self.separator, self.decimal, self.encoding, self.header)  # type: ignore[arg-type]  # it checks

    def with_options(self, options: Mapping[str, Any]) -> Said:
        """With what a look decided besides."""
        dropped = tuple(dict.fromkeys((*self.drop_columns, *options.get("drop_columns", ()))))
        return replace(self, **{**options, "drop_columns": dropped})


@dataclass(frozen=True)
class Finding:
    """One thing to decide.

    Args:
        text: what there is, and what the proposed command does with it.
        options: what the command says, by name; names of columns under `drop_columns` are added to those that are.
        must: whether nothing can be trained on before it is decided.
    """

    text: str
    options: Mapping[str, Any] = field(default_factory=dict)
    must: bool = True


@dataclass
class Look:
    """What a look at a file or a folder found.

    Args:
        path: what was looked at.
        facts: its size and how it is written.
        findings: what is to be decided.
        notes: what was found and needs no decision.
        faults: what no option helps with.
    """

    path: Path
    facts: str = ""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def blocks(self) -> bool:
        """Whether nothing can be trained on as it is."""
        return bool(self.faults) or any(finding.must for finding in self.findings)

    @property
    def options(self) -> dict[str, Any]:
        """All that the proposed command says."""
        options: dict[str, Any] = {}
        for finding in self.findings:
            for name, value in finding.options.items():
                options[name] = [*options.get(name, []), *value] if isinstance(value, list) else value
        return options

    def decide(self, text: str, must: bool = True, **options: Any) -> None:
        """Add a finding."""
        self.findings.append(Finding(text, options, must))
