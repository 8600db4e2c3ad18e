"""What BatchNorm does to DROCC-OE and DROCC-LF's scores on MNIST with half zeros, in a few minutes.

    python benchmarks/drocc_batch_statistics.py --method drocc_oe [--joint] [--root data]

The released code passes samples and negatives through the network as two batches, and its test of DROCC-LF scores
batches of one kind without a call of eval(). This trains on 3,000 zeros and 3,000 ones (12 epochs, 10 steps of ascent)
and scores the same network three ways: in evaluation mode, as this project does; with the statistics of mixed test
batches; with those of batches of normals alone, ones alone and half zeros alone, as the released code does.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.metrics import ranking_metrics
from adlightning.data.limited_negatives import LimitedNegatives, MaskedNormals
from adlightning.data.sources import MNIST
from adlightning.methods import DROCCLF, DROCCOE
from adlightning.methods.parts.ascent import Ascent
from adlightning.methods.parts.head import Head
from adlightning.networks import LeNetEncoder
from adlightning.preprocessing import StandardizeChannels

METHODS = {"drocc_oe": DROCCOE, "drocc_lf": DROCCLF}
SETTINGS: dict[str, Any] = {
    "encoder": partial(LeNetEncoder, rep_dim=64, leakiness=0.01),
    "head": Head(bias=False),
    "preprocessing": partial(StandardizeChannels, statistics="mnist"),
    **{"radius": 16.0, "gamma": 2.0, "mu": 1.0, "warm_up_epochs": 4},
    "optimizer": partial(Adam, lr=1e-3),
    "lr_scheduler": partial(MultiStepLR, milestones=[6]),
}
PROJECT_EVERY = {"drocc_oe": 10, "drocc_lf": 5}
BATCH = 256

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]


@torch.no_grad()
def scores(detector: DROCCOE | DROCCLF, x: torch.Tensor, groups: list[Rows]) -> Scores:
    """Scores (N,) of x, batches drawn within each group of rows; running statistics are as before afterwards."""
    before, result = {key: value.clone() for key, value in detector.state_dict().items()}, np.zeros(len(x))
    for group in groups:
        rows = np.random.default_rng(0).permutation(group)
        for part in np.array_split(rows, -(-len(rows) // BATCH)):
            result[part] = -detector.logits(detector.preprocess(x[part])).numpy()  # in whichever mode it is
    detector.load_state_dict(before)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=sorted(METHODS), default="drocc_lf")
    parser.add_argument("--joint", action="store_true", help="samples and negatives in one batch")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--root", default="data")
    options = parser.parse_args()
    pl.seed_everything(0)
    data = LimitedNegatives(
        source=MNIST(root=options.root),
        close_negatives=MaskedNormals(0.5),
        normal_class=0,
        far_classes=[1],
        n_train_normal=3000,
        n_train_far=3000,
        batch_size=BATCH,
        drop_last=False,
        validation_fraction=0.0,
    )
    ascent = Ascent(steps=10, step_size=0.5, project_every=PROJECT_EVERY[options.method])
    detector = METHODS[options.method](**SETTINGS, ascent=ascent, joint_batches=options.joint)
    trainer = pl.Trainer(
        max_epochs=options.epochs, logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.fit(detector, datamodule=data)

    rows = data.split.test
    everything = data.test_samples.x
    assert isinstance(everything, torch.Tensor)
    x, labels = everything[torch.from_numpy(rows)], data.split.test_labels
    close = np.array([data.test_samples.names[row].startswith("close") for row in rows])
    kinds = {"normal": labels == 0, "far": (labels == 1) & ~close, "close": close}
    own_batches = [np.flatnonzero(of_kind) for of_kind in kinds.values()]
    lines = {}
    for name, training, groups in (
        ("evaluation mode", False, [np.arange(len(x))]),
        ("statistics of mixed batches", True, [np.arange(len(x))]),
        ("statistics of batches of one kind", True, own_batches),
    ):
        s = scores(detector.train(training), x, groups)
        metrics = ranking_metrics(s, labels)
        lines[name] = {key: metrics[key] for key in ("auroc", "normal_recall_at_3_fpr", "normal_recall_at_5_fpr")}
        lines[name] |= {f"mean score, {kind}": s[of_kind].mean() for kind, of_kind in kinds.items()}
    print(pd.DataFrame(lines).T.round(3).to_string())


if __name__ == "__main__":
    main()
