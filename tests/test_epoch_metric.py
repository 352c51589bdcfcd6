"""The metrics of epochs: against the definitions of the final evaluation, and over processes."""

import copy
import io

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torchmetrics.classification import MulticlassCohenKappa

from lesion_exp.epoch_metric import EXACT, MeanLoss, training_metrics, validation_metrics
from lesion_exp.errors import DataError
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.evaluation.registry import shown_in
from lesion_exp.loss.focal import Focal

CLASSES = ("akiec", "bcc", "mel", "nv")
NUM_IMAGES = 61


def part(absent=()):
    """Logits with ties, and labels of the classes but those in `absent`."""
    generator = torch.Generator().manual_seed(3)
    logits = (torch.randn(NUM_IMAGES, len(CLASSES), generator=generator) * 2).round()
    present = [place for place, name in enumerate(CLASSES) if name not in absent]
    labels = torch.tensor(present)[torch.randint(len(present), (NUM_IMAGES,), generator=generator)]
    return logits, labels


def objective():
    return Focal([40, 3, 9, 9], class_weights="balanced")


def collection(loss=None, added=None):
    ids = [f"image_{place}" for place in range(NUM_IMAGES)]
    return validation_metrics((loss or objective()).__call__, CLASSES, ids, added)


def updated(found, logits, labels, positions, batch_size=7):
    for start in range(0, len(positions), batch_size):
        rows = positions[start : start + batch_size]
        found.update(logits=logits[rows], preds=logits[rows].softmax(1), target=labels[rows], index=rows)
    return found


@pytest.mark.parametrize("absent", [(), ("bcc",), ("akiec", "bcc"), ("akiec", "bcc", "nv")])
def test_the_values_are_those_of_the_final_evaluation_to_the_last_digit(absent):
    logits, labels = part(absent)
    names = [f"image_{place}" for place in range(NUM_IMAGES)]
    rows = pd.DataFrame({"image_id": names, "row_id": names, "label": [CLASSES[place] for place in labels]})
    rows[["lesion_id", "patient_id", "age", "sex", "site", "source"]] = None
    table = predictions_table(rows, logits.softmax(1).numpy(), CLASSES)
    recalls = [f"recall/{name}" for name in CLASSES]
    expected = {f"val/{name}": value for name, value in metrics(table, [*shown_in("epoch"), *recalls]).items()}
    computed = updated(collection(), logits, labels, torch.arange(NUM_IMAGES)).compute()
    loss = computed.pop("val/loss")
    assert computed == expected
    assert loss.item() == objective()(logits, labels).item(), "of all images at once: no mean of batches' losses"


def test_a_class_without_images_is_left_out_and_does_not_count_as_0():
    logits, labels = part(absent=("bcc",))
    computed = updated(collection(), logits, labels, torch.arange(NUM_IMAGES)).compute()
    assert "val/recall/bcc" not in computed
    assert computed["val/balanced_accuracy"] == pytest.approx(
        np.mean([computed[f"val/recall/{name}"] for name in ("akiec", "mel", "nv")])
    )


def test_an_image_that_is_evaluated_twice_is_noticed():
    logits, labels = part()
    twice = torch.cat([torch.arange(NUM_IMAGES), torch.tensor([0])])
    with pytest.raises(AssertionError, match="evaluated twice"):
        updated(collection(), logits, labels, twice).compute()


def test_logits_that_are_no_numbers_name_their_images():
    logits, labels = part()
    logits[5, 1] = float("nan")
    with pytest.raises(DataError, match=r"(?s)1 of 61 rows.*lower optimizer\.lr.*image_5"):
        updated(collection(), logits, labels, torch.arange(NUM_IMAGES)).compute()


def test_a_metric_of_torchmetrics_is_computed_beside_the_others():
    logits, labels = part()
    kappa = MulticlassCohenKappa(len(CLASSES))
    computed = updated(collection(added={"kappa": kappa}), logits, labels, torch.arange(NUM_IMAGES)).compute()
    alone = MulticlassCohenKappa(len(CLASSES))
    alone.update(logits, labels)
    assert computed["val/kappa"].item() == alone.compute().item()


def test_the_loss_stands_once_in_a_checkpoint_and_the_metrics_not_at_all():
    loss = objective()
    module = torch.nn.ModuleDict({"loss": loss})
    before = set(module.state_dict())
    module["validation"] = updated(collection(loss), *part(), torch.arange(NUM_IMAGES))
    assert set(module.state_dict()) == before
    twin = copy.deepcopy(module)
    assert twin["validation"].compute()["val/loss"] == module["validation"].compute()["val/loss"]


def test_the_mean_loss_is_exact_and_goes_on_where_a_checkpoint_was_saved():
    values = [0.1, 1.0e-3, 7.3]
    found = training_metrics()
    for value in values:
        found.update(total=torch.tensor(value).double() * 3, count=3)
    total, count = found["loss"].over_processes()
    assert found.compute() == {"train/loss": total / count}
    assert total == sum(float(torch.tensor(value)) * 3 for value in values)
    resumed = training_metrics()
    resumed["loss"].update(torch.tensor(total, dtype=EXACT), int(count))
    assert resumed.compute() == found.compute()


def test_the_sum_of_losses_keeps_its_precision_in_a_network_of_bfloat16():
    found = MeanLoss()
    found.update(torch.tensor(1.0 + 2.0**-20, dtype=EXACT), 1)
    torch.nn.ModuleDict({"metric": found}).to(torch.bfloat16)
    found.reset()
    found.update(torch.tensor(1.0 + 2.0**-20, dtype=EXACT), 1)
    assert found.compute() == 1.0 + 2.0**-20


def _rank(rank, num_ranks, address, results):
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=num_ranks)
    logits, labels = part(absent=("bcc",))
    own = torch.arange(NUM_IMAGES)[rank::num_ranks]  # 31 and 30 images: uneven
    found = updated(collection(added={"kappa": MulticlassCohenKappa(len(CLASSES))}), logits, labels, own)
    losses = training_metrics()
    losses.update(total=torch.tensor(float(rank + 1), dtype=EXACT), count=rank + 1)
    content = io.BytesIO()
    torch.save({**found.compute(), **losses.compute()}, content)
    results.put((rank, content.getvalue()))
    dist.destroy_process_group()


def test_two_processes_compute_what_one_does_each_image_once(tmp_path):
    logits, labels = part(absent=("bcc",))
    alone = updated(
        collection(added={"kappa": MulticlassCohenKappa(len(CLASSES))}), logits, labels, torch.arange(NUM_IMAGES)
    ).compute()
    context = mp.get_context("fork")
    results = context.SimpleQueue()
    ranks = [context.Process(target=_rank, args=(rank, 2, f"file://{tmp_path}/meeting", results)) for rank in range(2)]
    for process in ranks:
        process.start()
    found = [torch.load(io.BytesIO(results.get()[1])) for _ in ranks]
    for process in ranks:
        process.join()
    for computed in found:
        assert computed == {**alone, "train/loss": 1.0}
