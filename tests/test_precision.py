"""Mixed precision: every method trains through its phases and scores; what it keeps is in float32."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from short_fits import BY_EPOCHS, config_of, options_of, slow_but

from adlightning.__main__ import main

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 is for CUDA")


@pytest.mark.parametrize(
    ("precision", "accelerator"), [("bf16-mixed", "cpu"), pytest.param("16-mixed", "gpu", marks=NO_GPU)]
)
@pytest.mark.parametrize("case", slow_but(("deep_sad/digits", "ama/digits clip"), BY_EPOCHS))
def test_every_method_trains_and_scores(case: str, precision: str, accelerator: str, tmp_path: Path) -> None:
    options = [*options_of(case, 1, 2), f"--trainer.precision={precision}", f"--trainer.accelerator={accelerator}"]
    assert main(["fit", "--config", str(config_of(case)), *options, f"--run_dir={tmp_path / 'run'}"]) == 0
    assert json.loads((tmp_path / "run/metrics.json").read_text())["precision"] == precision
    scores = pd.read_csv(tmp_path / "run/scores.csv")["score"]
    assert np.isfinite(scores).all()
    assert scores.nunique() > 30  # outputs of a network in bfloat16 have three digits: those of a short fit tie
    state = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    kept = {value.dtype for value in state.values() if value.is_floating_point()}
    assert kept <= {torch.float32, torch.float64}
