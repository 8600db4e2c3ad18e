"""Every method's checkpoint with values changed at any depth: scored with and gone on from, it works or is refused.

HOSTILE_EXAMPLES=300 tries as many of each method, other ones each time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from hostile_cases import put
from mutations import CASES, tried
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, Timer
from short_fits import slow_but
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from adlightning.data.labelled import AnomalyLabelled
from adlightning.methods.deep_svdd import DeepSVDD
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks import MLPEncoder
from adlightning.preprocessing import StandardizeFeatures
from adlightning.testing import Blobs

_ASKED = os.environ.get("HOSTILE_EXAMPLES")
FEW = 20
QUICK = ("deep_sad/digits", "goad/sphere", "kde/digits_hybrid")


@pytest.mark.parametrize("case", slow_but(QUICK, CASES))
def test_any_value_in_the_place_of_another(case: str, tmp_path: Path) -> None:
    seed = 0 if _ASKED is None else int(time.time())
    _, faults = tried(case, tmp_path, int(_ASKED or FEW), seed)
    assert faults == []


# ---- what each part must be ------------------------------------------------------------------------------------------


class Gone(DeepSVDD):
    """A detector that says what its fit went on with."""

    seen: dict[str, Any]

    def on_train_start(self) -> None:
        super().on_train_start()
        self.seen = {
            "epoch": self.trainer.current_epoch,
            "step": self.trainer.global_step,
            "rate": self.trainer.optimizers[0].param_groups[0]["lr"],
            "moments": [dict(state) for state in self.trainer.optimizers[0].state.values()],
        }


def detector() -> Gone:
    return Gone(
        encoder=partial(MLPEncoder, dense=[8], rep_dim=2),
        preprocessing=StandardizeFeatures,
        pretraining=AutoencoderPretraining(epochs=0),
        optimizer=partial(Adam, lr=1e-3),
        lr_scheduler=partial(MultiStepLR, milestones=[1]),
    )


@pytest.fixture(scope="module")
def data() -> AnomalyLabelled:
    return AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.1, batch_size=64, seed=0, validation_fraction=0.2)


def callbacks(folder: Path) -> list[pl.Callback]:
    best = BestCheckpoint(folder, "val/score_mean", "min")
    patient = EarlyStopping("val/score_mean", patience=9)
    several = ModelCheckpoint(folder, "{epoch}", "val/score_mean", save_top_k=2)
    return [LastCheckpoint(folder), best, patient, several, Timer()]


@pytest.fixture(scope="module")
def trained(data: AnomalyLabelled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "checkpoints"
    trainer(folder, 3).fit(detector(), datamodule=data)
    return folder


def trainer(folder: Path, epochs: int) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=callbacks(folder),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder.parent,
    )


def key_of(content: dict[str, Any], name: str) -> str:
    return next(str(key) for key in content["callbacks"] if key.startswith(name))


LOOP = ("loops", "fit_loop")
STATE = ("optimizer_states", 0, "state", 0)
GROUP = ("optimizer_states", 0, "param_groups", 0)
WRONG: list[tuple[tuple[Any, ...], Any, str]] = [
    (("loops",), None, "loops"),
    (LOOP, None, "loops.fit_loop must be a mapping"),
    ((*LOOP, "epoch_progress"), {}, "epoch_progress must hold total"),
    ((*LOOP, "epoch_progress", "total", "ready"), -1, "total.ready must be a whole number"),
    ((*LOOP, "epoch_progress", "total", "ready"), True, "total.ready must be a whole number"),
    ((*LOOP, "epoch_progress", "total", "ready"), 2**62, "total.ready must be a whole number"),
    ((*LOOP, "epoch_progress", "total", "ready"), 9, "count ready, started, processed and completed in turn"),
    ((*LOOP, "epoch_progress", "more"), 1, "must hold nothing but total, current"),
    ((*LOOP, "epoch_loop.batch_progress", "is_last_batch"), 1, "is_last_batch must be true or false"),
    ((*LOOP, "epoch_loop.state_dict", "_batches_that_stepped"), 10**6, "_batches_that_stepped must be"),
    ((*LOOP, "epoch_loop.state_dict"), -1, "epoch_loop.state_dict must be a mapping"),
    (("epoch",), 1, "epoch must be 2, as its loops say"),
    (("global_step",), 1, "global_step must be"),
    (("adlightning", "training", "epochs"), 1, "epochs must be as its loops say"),
    (("optimizer_states",), [], "optimizer_states must be a list of 1"),
    (("optimizer_states", 0), "x", r"optimizer_states\[0\] must be a mapping"),
    ((*GROUP, "lr"), "x", "lr must be a finite number"),
    ((*GROUP, "lr"), -1e-3, "lr must not be negative"),
    ((*GROUP, "lr"), 0.5, "lr must be the schedule's"),
    ((*GROUP, "betas"), (2.0, 0.9), "betas must be the detector's"),
    ((*GROUP, "weight_decay"), float("nan"), "weight_decay must be the detector's"),
    ((*GROUP, "params"), [0], "params must be the detector's"),
    ((*GROUP, "more"), 1, "must hold nothing but"),
    (("optimizer_states", 0, "state", 99), {}, "state must be a whole number from 0 to"),
    ((*STATE, "exp_avg"), torch.zeros(1), "exp_avg must be a tensor"),
    ((*STATE, "exp_avg_sq"), -1, "exp_avg_sq must be a tensor"),
    ((*STATE, "step"), torch.tensor(-1.0), "step must be a whole number"),
    ((*STATE, "step"), torch.tensor(1e9), "step must be a whole number"),
    ((*STATE, "more"), 1, "must hold nothing but"),
    (("lr_schedulers",), [], "lr_schedulers must be a list of 1"),
    (("lr_schedulers", 0, "last_epoch"), -1, "last_epoch must be a whole number"),
    (("lr_schedulers", 0, "base_lrs"), [1.0], "base_lrs must be as 3 goings on"),
    (("lr_schedulers", 0, "_last_lr"), ["x"], "must be a finite number"),
    (("lr_schedulers", 0, "step"), -1, "must hold nothing but"),
    (("callbacks",), [], "callbacks"),
    (("callbacks", "EarlyStopping", "wait_count"), -1, "wait_count must be a whole number"),
    (("callbacks", "EarlyStopping", "stopping_reason"), 77, "stopping_reason must be one of"),
    (("callbacks", "EarlyStopping", "best_score"), "x", "best_score must be one number"),
    (("callbacks", "Timer", "time_elapsed", "train"), float("nan"), "time_elapsed.train must be a finite number"),
    (("callbacks", "BestCheckpoint", "best_k_models"), {"a": 1}, "best_k_models must be one number"),
    (("callbacks", "BestCheckpoint", "best_model_path"), 3, "best_model_path must be a short text"),
    (("callbacks", "BestCheckpoint", "monitor"), "val/auroc", "monitor must be val/score_mean"),
    (("callbacks", "ModelCheckpoint", "more"), 1, "must hold nothing but"),
]


@pytest.mark.parametrize(("place", "value", "words"), WRONG)
def test_a_part_that_no_fit_leaves_is_refused_before_training(
    trained: Path, data: AnomalyLabelled, tmp_path: Path, place: tuple[Any, ...], value: Any, words: str
) -> None:
    content = torch.load(trained / "last.ckpt", weights_only=True)
    if len(place) > 1 and place[0] == "callbacks":
        place = ("callbacks", key_of(content, place[1]), *place[2:])
    put(content, place, value)
    torch.save(content, tmp_path / "odd.ckpt")
    going_on = detector()
    with pytest.raises(ValueError, match=rf"odd\.ckpt is refused: .*{words}"):
        trainer(tmp_path / "checkpoints", 4).fit(
            going_on, datamodule=data, ckpt_path=tmp_path / "odd.ckpt", weights_only=True
        )
    assert not hasattr(going_on, "seen")
    assert [path.name for path in tmp_path.iterdir()] == ["odd.ckpt"]


@pytest.mark.parametrize("part", ["loops", "callbacks", "optimizer_states", "lr_schedulers"])
def test_a_checkpoint_without_trainings_state_is_for_scoring(
    trained: Path, data: AnomalyLabelled, tmp_path: Path, part: str
) -> None:
    content = torch.load(trained / "last.ckpt", weights_only=True)
    del content[part]
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(ValueError, match=f"odd.ckpt is refused: .*lacks {part}: score with it"):
        trainer(tmp_path, 4).fit(detector(), datamodule=data, ckpt_path=tmp_path / "odd.ckpt", weights_only=True)


def test_what_fits_is_what_is_gone_on_with(trained: Path, data: AnomalyLabelled, tmp_path: Path) -> None:
    content = torch.load(trained / "last.ckpt", weights_only=True)
    going_on = detector()
    trainer(tmp_path, 4).fit(going_on, datamodule=data, ckpt_path=trained / "last.ckpt", weights_only=True)
    assert going_on.seen["epoch"] == 3
    assert going_on.seen["step"] == content["global_step"]
    assert going_on.seen["rate"] == content["lr_schedulers"][0]["_last_lr"][0] == pytest.approx(1e-4)
    saved = content["optimizer_states"][0]["state"]
    assert len(saved) == len(going_on.seen["moments"]) > 0
    for own, given in zip(going_on.seen["moments"], saved.values(), strict=True):
        assert own.keys() == given.keys()


def test_moments_that_share_memory_get_their_own(trained: Path, data: AnomalyLabelled, tmp_path: Path) -> None:
    content = torch.load(trained / "last.ckpt", weights_only=True)
    for state in content["optimizer_states"][0]["state"].values():
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = torch.zeros(()).expand(state[name].shape)  # in place, torch refuses to change it
    torch.save(content, tmp_path / "odd.ckpt")
    trainer(tmp_path / "checkpoints", 4).fit(
        detector(), datamodule=data, ckpt_path=tmp_path / "odd.ckpt", weights_only=True
    )


# ---- paths -----------------------------------------------------------------------------------------------------------


def paths_of(name: str) -> Callable[[pl.Trainer], dict[str, Any]]:
    def paths(fitted: pl.Trainer) -> dict[str, Any]:
        every = [callback for callback in fitted.checkpoint_callbacks if type(callback).__name__ == name]
        (own,) = [callback for callback in every if isinstance(callback, ModelCheckpoint)]
        return {"best": own.best_model_path, "kth": own.kth_best_model_path, "all": sorted(own.best_k_models)}

    return paths


@pytest.mark.parametrize("name", ["LastCheckpoint", "BestCheckpoint", "ModelCheckpoint"])
@pytest.mark.parametrize("path", ["local://{victim}", "{victim}/last.ckpt", "file://{victim}/last.ckpt", "../victim"])
def test_paths_are_the_run_s_own(trained: Path, data: AnomalyLabelled, tmp_path: Path, name: str, path: str) -> None:
    victim, run = tmp_path / "victim", tmp_path / "run" / "checkpoints"
    victim.mkdir()
    run.mkdir(parents=True)
    for folder in (victim, run):
        for file in trained.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    content = torch.load(trained / "last.ckpt", weights_only=True)
    state = content["callbacks"][key_of(content, name)]
    hostile = path.format(victim=victim)
    state |= {
        "best_model_path": hostile,
        "kth_best_model_path": hostile,
        "last_model_path": hostile,
        "dirpath": hostile,
    }
    if state["best_k_models"]:
        state["best_k_models"] = {hostile: next(iter(state["best_k_models"].values()))}
    torch.save(content, run / "last.ckpt")
    before = {file.name: file.read_bytes() for file in victim.iterdir()}
    fitted = trainer(run, 4)
    fitted.fit(detector(), datamodule=data, ckpt_path=run / "last.ckpt", weights_only=True)
    assert {file.name: file.read_bytes() for file in victim.iterdir()} == before
    paths = paths_of(name)(fitted)
    assert all(Path(own).parent == run for own in [paths["best"], *paths["all"]] if own)


def test_a_run_that_was_moved_goes_on_with_its_own_best_one(
    trained: Path, data: AnomalyLabelled, tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    run = tmp_path / "moved" / "checkpoints"
    run.mkdir(parents=True)
    for file in trained.iterdir():
        (run / file.name).write_bytes(file.read_bytes())
    best = (run / "best.ckpt").read_bytes()
    content = torch.load(run / "last.ckpt", weights_only=True)
    state = content["callbacks"][key_of(content, "BestCheckpoint")]
    score = torch.tensor(-1e9)  # none is better
    state |= {"best_k_models": dict.fromkeys(state["best_k_models"], score), "best_model_score": score}
    torch.save(content, run / "last.ckpt")
    fitted = trainer(run, 4)
    fitted.fit(detector(), datamodule=data, ckpt_path=run / "last.ckpt", weights_only=True)
    assert paths_of("BestCheckpoint")(fitted)["best"] == str(run / "best.ckpt")
    assert (run / "best.ckpt").read_bytes() == best
    elsewhere = trainer(tmp_path / "new" / "checkpoints", 5)  # another run begins to select anew
    elsewhere.fit(detector(), datamodule=data, ckpt_path=run / "last.ckpt", weights_only=True)
    assert paths_of("BestCheckpoint")(elsewhere)["best"] == str(tmp_path / "new" / "checkpoints" / "best.ckpt")


def test_averages_of_weights_are_not_gone_on_with(trained: Path, data: AnomalyLabelled, tmp_path: Path) -> None:
    content = torch.load(trained / "last.ckpt", weights_only=True)
    content["current_model_state"] = content["state_dict"]
    torch.save(content, tmp_path / "averaged.ckpt")
    with pytest.raises(ValueError, match="not averages: score with it"):
        trainer(tmp_path, 4).fit(detector(), datamodule=data, ckpt_path=tmp_path / "averaged.ckpt", weights_only=True)
