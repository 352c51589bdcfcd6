"""When checkpoints are saved, and which of them are kept, in trainings of a network with one weight."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ProgressBar
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from lesion_exp.training.callbacks import TrainingProgress
from lesion_exp.training.checkpoint import LAST, BestCheckpoints, ResumePoints
from lesion_exp.training.watched_metrics import Watched

METRIC = "val/balanced_accuracy"
NUM_BATCHES = 8


class OneWeight(pl.LightningModule):
    """A network whose validations have the given values; it remembers its weight at each of them."""

    def __init__(self, values=()):
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        self.values, self.weights = list(values), {}

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def on_validation_epoch_end(self):
        if self.values:
            value = self.values.pop(0)
            self.weights[value] = self.layer.weight.item()
            self.log(METRIC, value)

    def mean_loss(self):
        return 0.0

    def configure_optimizers(self):
        return SGD(self.parameters(), lr=0.01)


def trained(folder, network, *callbacks, **settings):
    images = DataLoader(TensorDataset(torch.linspace(1, 2, NUM_BATCHES)[:, None]))
    has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    trainer = pl.Trainer(
        accelerator="cpu", default_root_dir=folder, logger=False, enable_progress_bar=has_bar,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=list(callbacks), **settings,
    )  # fmt: skip
    trainer.fit(network, images, images)


@pytest.mark.parametrize(
    "values", [(0.6, 0.5), (0.5, 0.6), (0.3, 0.5, 0.55, 0.52), (0.6, 0.5, 0.55, 0.52), (0.1, 0.2, 0.3, 0.4)]
)
def test_a_later_validation_of_an_epoch_leaves_the_better_checkpoint_of_an_earlier_one(tmp_path, values):
    best, network = BestCheckpoints(tmp_path, Watched(METRIC, "max")), OneWeight(values)
    trained(tmp_path, network, best, val_check_interval=0.5, max_epochs=len(values) // 2)
    kept = {torch.load(path, weights_only=True)["state_dict"]["layer.weight"].item() for path in tmp_path.glob("best*")}
    assert kept == {network.weights[value] for value in sorted(values)[-2:]}
    content = torch.load(best.best_file(), weights_only=True)
    assert content["state_dict"]["layer.weight"].item() == network.weights[max(values)]


class EpochLines(TrainingProgress):
    """Counts no images, of which the batches of these trainings have none."""

    def on_train_batch_end(self, *_):
        pass


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.4, 0.5, 0.72, 0.6, 0.66, 0.61), "0.610 (best 0.720, epoch 2)"),
        ((float("nan"), float("nan"), 0.3, 0.2), "0.200 (best 0.300, epoch 2)"),
    ],
)
def test_the_line_of_an_epoch_names_the_best_of_all_validations(tmp_path, caplog, values, said):
    caplog.set_level("INFO", "lesion_exp")
    shown = EpochLines(Watched(METRIC, "max"))
    trained(tmp_path, OneWeight(values), shown, val_check_interval=0.5, max_epochs=len(values) // 2)
    lines = [record.getMessage() for record in caplog.records if "(best" in record.getMessage()]
    assert f"{METRIC} {said}" in lines[-1]


class AnHourPasses(Callback):
    """Lets a checkpoint be due by time in the middle of a step."""

    def __init__(self, points):
        self.points = points

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 2:
            self.points._saved_time -= 3600


class SavedBatches(Callback):
    """Remembers how many batches of the epoch the checkpoint contains, after each batch."""

    def __init__(self, path):
        self.path, self.seen = path, set()

    def on_train_batch_end(self, trainer, *_):
        if self.path.exists():
            progress = torch.load(self.path, weights_only=True)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            self.seen.add(progress["current"]["ready"])


@pytest.mark.parametrize(
    ("every", "settings", "expected"),
    [((None, 10), {}, {4}), ((1, None), {"val_check_interval": 2}, set()), ((1, None), {}, {2, 4, 6})],
)
def test_no_checkpoint_is_saved_while_gradients_are_accumulated(tmp_path, every, settings, expected):
    points = ResumePoints(tmp_path, *every)
    saved = SavedBatches(tmp_path / LAST)
    trained(
        tmp_path, OneWeight(), points, AnHourPasses(points), saved, max_epochs=1, accumulate_grad_batches=2, **settings
    )
    assert saved.seen == expected
