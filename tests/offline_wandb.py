"""An offline W&B run, read back from disk."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class OfflineRun:
    """What a W&B run below a folder says, once W&B's own process, which may outlast `finish`, wrote its end."""

    def __init__(self, folder: Path) -> None:
        self.records = _read(folder)
        self.run = self.records["run"][-1]  # tags that are added are another record

    @property
    def config(self) -> dict[str, Any]:
        changes = [*(run.config for run in self.records["run"]), *self.records.get("config", [])]
        config: dict[str, Any] = {}
        for item in (item for change in changes for item in change.update):
            config[".".join(item.nested_key) or item.key] = json.loads(item.value_json)
        return config

    @property
    def summary(self) -> dict[str, Any]:
        changes = self.records["summary"]
        return {
            ".".join(item.nested_key) or item.key: json.loads(item.value_json)
            for change in changes
            for item in change.update
        }

    @property
    def history(self) -> list[dict[str, Any]]:
        return [
            {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.item}
            for record in self.records["history"]
        ]

    @property
    def metrics(self) -> dict[str, Any]:
        """Definitions of metrics by name."""
        return {metric.name or metric.glob_name: metric for metric in self.records["metric"]}

    @property
    def artifacts(self) -> dict[str, Any]:
        """Artifacts by kind."""
        return {artifact.type: artifact for artifact in self.records.get("artifact", [])}


def _read(folder: Path) -> dict[str, list[Any]]:
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.rglob("run-*.wandb")
    deadline = time.monotonic() + 60
    records: dict[str, list[Any]] = {}
    while "exit" not in records:
        assert time.monotonic() < deadline, f"W&B wrote no end of the run, only {sorted(records)}"
        time.sleep(0.1)
        records = {}
        for data in _log_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            records.setdefault(kind, []).append(getattr(record, kind))
    return records


def _log_records(data: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log (the form of an offline W&B run): 32 KiB blocks of crc, length, type and payload."""
    position, part = 7, b""  # after the file's own header
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left  # a block's end too short for a header is padding
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        if position + 7 + length > len(data):
            return  # it is being written
        part += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or its last piece
            yield part
            part = b""
