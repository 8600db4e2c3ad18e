"""What the build adds to a wheel: experiments and sweeps, which lie beside the package in a checkout."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ExperimentsInWheel(BuildHookInterface):
    """`configs/` and `sweeps/` as the package's own folders; an editable installation reads those of the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the folders to the builder."""
        if version == "standard":
            build_data["force_include"] |= {folder: f"adlightning/{folder}" for folder in ("configs", "sweeps")}
