"""What Weights & Biases shows beside the curves: plots as images and scores as a table."""

from __future__ import annotations

import os

import pytorch_lightning as pl
import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from adlightning.callbacks.description import score_frame
from adlightning.callbacks.run_folder import RunFolder
from adlightning.core.detector import AnomalyDetector


@rank_zero_only
def connect(logger: WandbLogger) -> None:
    """Begin the logger's run: offline, with a warning, where W&B cannot be reached. It tries for a minute or two."""
    try:
        logger.experiment  # noqa: B018  # made when it is first looked at
    except wandb.errors.CommError as error:
        reason = str(error).splitlines()[0]
        rank_zero_warn(
            f"Weights & Biases cannot be reached ({reason}): this run is logged offline. Send it later with "
            "`wandb sync RUN/wandb/offline-run-*`"
        )
        wandb.teardown()  # of the attempt
        os.environ["WANDB_MODE"] = "offline"
        logger.experiment  # noqa: B018


class WandbReport(pl.Callback):
    """Send the run folder's plots and scores to every W&B logger that the run has.

    Args:
        run_folder: wrote them.
    """

    def __init__(self, run_folder: RunFolder) -> None:
        self.run_folder = run_folder

    @rank_zero_only
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Images under `plots/<name>`, a table for each test set under `scores/<name>`."""
        assert isinstance(pl_module, AnomalyDetector)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                for path in self.run_folder.plots:
                    key = path.relative_to(self.run_folder.folder).with_suffix("").as_posix()
                    logger.log_image(key=key, images=[str(path)])
                for name, scored in pl_module.results.items():
                    frame = score_frame(scored, pl_module.data.sample_names(name), pl_module.threshold.item())
                    logger.log_table(key=f"scores/{name}", dataframe=frame.astype({"label": "float64"}))
