"""A grid that runs in seconds: a small table of one's own, two methods, two seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

MODEL = {
    "encoder": {"class_path": "MLPEncoder", "init_args": {"dense": [8], "rep_dim": 4}},
    "preprocessing": "StandardizeFeatures",
    "pretraining": {"epochs": 1},
}


def write_grid(root: Path, **changes: Any) -> Path:
    """A folder of configs with a benchmark file; changes replace keys of the latter."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(80, 4)), rng.normal(size=(20, 4)) + 3])
    frame = pd.DataFrame(x, columns=list("abcd")).assign(label=["normal"] * 80 + ["anomaly"] * 20)
    frame.to_csv(root / "table.csv", index=False)
    data = {"class_path": "TableData", "init_args": {"path": str(root / "table.csv"), "label_column": "label"}}
    for method, name in {"deep_sad": "DeepSAD", "deep_svdd": "DeepSVDD"}.items():
        config = {"trainer": {"max_epochs": 2}, "model": {"class_path": name, "init_args": MODEL}, "data": data}
        (root / "configs" / method).mkdir(parents=True, exist_ok=True)
        (root / "configs" / method / "own.yaml").write_text(yaml.safe_dump(config))
    spec: dict[str, Any] = {
        "paper": "deep_sad",
        "table": 6,
        "seeds": 2,
        "options": {"data.validation_fraction": 0, "data.labelled_anomaly_ratio": 0.1},
        "datasets": {"own": None},
        "methods": [{"method": "deep_svdd", "variant": "one_class", "labels": False}, {"method": "deep_sad"}],
    }
    file = root / "configs" / "benchmarks" / "small.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(spec | changes))
    return file
