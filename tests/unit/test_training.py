"""Training from crops to a model folder: what it makes, and what happens when it is stopped or goes wrong."""

from __future__ import annotations

import csv
import errno
import json

import numpy as np
import pytest
import torch
from crops_for_training import COLOURS, SIDE, disc, make_crops, settings, train
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn

from napari_leukocls.architectures import InputRule, registry
from napari_leukocls.classification.fusion import is_folded, unfold_batch_norm
from napari_leukocls.classification.loading import load_classifier, verify
from napari_leukocls.errors import Cancelled, InputError, ModelError, OutputError
from napari_leukocls.progress import CancelToken, drain
from napari_leukocls.training import network
from napari_leukocls.training.run import iter_train


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return make_crops(tmp_path_factory.mktemp("crops") / "crops")


@pytest.fixture(scope="module")
def model(crops, tmp_path_factory):
    """A model of twenty epochs, with the events of its making."""
    out = tmp_path_factory.mktemp("model")
    return train(settings(crops, out, epochs=20, patience=0, test_share=0.2, lr=1e-2, freeze="none"))


def card_of(folder):
    return json.loads((folder / "model.json").read_text())


def warnings_of(events):
    return [event.data["message"] for event in events if event.kind == "warning"]


def test_the_model_can_be_used_and_its_card_says_how_it_was_made(model):
    folder, events = model
    card = card_of(folder)
    classifier = load_classifier(folder, "cpu")
    assert verify(folder)[1].endswith("as the card says")
    random = np.random.default_rng(9)
    seen = classifier.predict(
        np.stack([disc(colour, random) for colour in COLOURS.values() for _ in range(5)])
    )
    truth = [classifier.classes.index(name) for name in COLOURS for _ in range(5)]
    assert (seen.probabilities.argmax(1) == truth).mean() > 0.8
    assert card["classes"] == sorted(COLOURS) and card["input_size"] == [SIDE, SIDE]
    assert card["training_data"]["counts"] == card["split"]["counts"]["train"]
    assert all(6 <= count <= 9 for count in card["training_data"]["counts"].values())
    assert 0.5 <= card["review_threshold"] <= 0.99 and card["ood"]["method"] and card["temperature"] > 0
    assert card["test"]["touched"].startswith("once, on 20") and card["test"]["n"] > 0
    assert np.sum(card["confusion_matrix"]) == card["test"]["n"]
    assert events[-1].kind == "finished" and events[-1].data["model"] == str(folder)
    assert [event.kind for event in events if event.kind == "epoch"] == ["epoch"] * 20
    assert not (folder.parent / "checkpoint").exists()


def test_a_training_that_is_refused_leaves_no_empty_folder(crops, tmp_path):
    work = iter_train(settings(crops, tmp_path / "out", leave_out=("artefact",)))
    with pytest.raises(InputError, match="no such class"):
        drain(work)
    assert not (tmp_path / "out").exists()


def test_the_split_is_recorded_by_file_hash(model, crops):
    import hashlib

    folder, _ = model
    with (folder / "split.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 36 and {row["split"] for row in rows} == {"train", "validation", "test"}
    first = rows[0]
    assert first["sha256"] == hashlib.sha256((crops / first["file"]).read_bytes()).hexdigest()
    names = "\n".join(sorted(row["sha256"] for row in rows if row["split"] == "test"))
    assert card_of(folder)["split"]["files_sha256"]["test"] == hashlib.sha256(names.encode()).hexdigest()


def test_noise_is_less_like_few_crops_than_other_cells_are(tmp_path):
    """Of a laboratory with few crops: its classes are smaller than the usual number of neighbours."""
    data = make_crops(tmp_path / "crops", each=6)
    learnt = settings(data, tmp_path, from_model="default", freeze="head", epochs=10, lr=1e-2)
    classifier = load_classifier(train(learnt)[0], "cpu")
    random = np.random.default_rng(3)
    same = np.stack([disc(colour, random) for colour in COLOURS.values() for _ in range(6)])
    same, other = (
        np.stack([np.asarray(Image.fromarray(crop).resize((128, 128))) for crop in crops])
        for crops in (same, random.integers(0, 255, same.shape).astype(np.uint8))
    )
    known, unknown = (classifier.predict(crops).ood_score for crops in (same, other))
    assert roc_auc_score([0] * len(known) + [1] * len(unknown), np.concatenate([known, unknown])) > 0.9


VARIED = {
    "ema": 0.9,
    "mixup": 0.2,
    "epochs": 3,
    "schedule": "onecycle",
    "checkpoint_minutes": 0.0,
    "dropout": 0.2,
}


@pytest.fixture(scope="module")
def whole(crops, tmp_path_factory):
    return card_of(train(settings(crops, tmp_path_factory.mktemp("whole"), **VARIED))[0])


@pytest.mark.parametrize("kind_and_count", [("epoch", 1), ("epoch", 2), ("step", 2), ("step", 5)])
def test_a_training_that_is_cut_off_goes_on_to_the_same_numbers(
    crops, tmp_path, whole, kind_and_count, monkeypatch
):
    from napari_leukocls.training import trainer

    kind, count = kind_and_count
    saved = []
    save = trainer.Fit._save

    class PowerCut(BaseException):
        """Ends the training where it stands, as losing power does: nothing more is written."""

    def counted(self):
        yield from save(self)
        saved.append(self.progress.step)
        if kind == "step" and len(saved) == count:
            raise PowerCut

    monkeypatch.setattr(trainer.Fit, "_save", counted)
    work = iter_train(settings(crops, tmp_path, **VARIED))
    epochs = 0
    with pytest.raises(PowerCut):
        for event in work:
            epochs += event.kind == "epoch"
            if kind == "epoch" and epochs == count:
                raise PowerCut
    work.close()
    monkeypatch.undo()
    assert (tmp_path / "checkpoint" / "checkpoint.safetensors").is_file()
    torch.manual_seed(12345)
    folder, events = train(settings(crops, tmp_path, **VARIED))
    again = card_of(folder)
    assert any("going on from epoch" in event.data.get("message", "") for event in events)
    assert again["weights_sha256"] == whole["weights_sha256"]
    for name in ("temperature", "review_threshold", "ood", "validation"):
        assert again[name] == whole[name]
    assert again["test"]["accuracy"] == whole["test"]["accuracy"]


def cut_off(config):
    """Train one epoch and leave the checkpoint."""
    work = iter_train(config)
    for event in work:
        if event.kind == "epoch":
            # The checkpoint is written when the next event is asked for.
            next(work)
            break
    work.close()


def test_a_checkpoint_of_another_architecture_is_refused_until_told_to_restart(crops, tmp_path):
    cut_off(settings(crops, tmp_path, epochs=3))
    other = {"arch": "test_resnet", "epochs": 1}
    with pytest.raises(ModelError, match="architecture was test_efficientnet, is test_resnet.*--restart"):
        train(settings(crops, tmp_path, **other))
    with pytest.raises(ModelError, match="lr was 0.003"):
        train(settings(crops, tmp_path, epochs=3, lr=0.1))
    folder, _ = train(settings(crops, tmp_path, **other, restart=True))
    assert card_of(folder)["architecture"] == "test_resnet"


def test_a_damaged_checkpoint_is_said(crops, tmp_path):
    cut_off(settings(crops, tmp_path, epochs=3))
    file = tmp_path / "checkpoint" / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ModelError, match="damaged.*--restart"):
        train(settings(crops, tmp_path, epochs=3))


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(crops, tmp_path, monkeypatch):
    from napari_leukocls.io import atomic

    sync = atomic._sync

    def full(path):
        if "checkpoint" in str(path.parent):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(path)

    monkeypatch.setattr(atomic, "_sync", full)
    folder, events = train(settings(crops, tmp_path))
    assert "the disk is full" in warnings_of(events)[0] and "training goes on" in warnings_of(events)[0]
    assert load_classifier(folder, "cpu").classes == tuple(sorted(COLOURS))
    assert not list(tmp_path.glob("checkpoint/.leukocls*"))


def test_a_disk_that_is_full_at_the_end_keeps_the_checkpoint(crops, tmp_path, monkeypatch):
    from napari_leukocls.models import install

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(install, "write_card", full)
    with pytest.raises(OutputError, match="the disk is full"):
        train(settings(crops, tmp_path))
    monkeypatch.undo()
    assert not (tmp_path / "made").exists()
    folder, events = train(settings(crops, tmp_path))
    assert not [event for event in events if event.kind == "epoch"] and verify(folder)


def test_a_loss_that_is_no_number_ends_with_what_was_best(crops, tmp_path, monkeypatch):
    from napari_leukocls.training import trainer

    step = trainer.Fit._step
    monkeypatch.setattr(
        trainer.Fit,
        "_step",
        lambda self, *a: (float("nan"), 0) if self.progress.epoch == 1 else step(self, *a),
    )
    folder, events = train(settings(crops, tmp_path, epochs=5))
    assert "the weights of epoch 1 are kept; lower --lr" in warnings_of(events)[0]
    assert card_of(folder)["training"]["ended_because"] == "the loss is no number"
    assert events[-1].data["best_epoch"] == 1


def test_a_loss_that_is_no_number_from_the_start(crops, tmp_path):
    with pytest.raises(ModelError, match="nothing was learnt.*lower --lr"):
        train(
            settings(crops, tmp_path, lr=1e38, optimiser="sgd", schedule="constant", clip=0, warmup_epochs=0)
        )


def test_a_soft_stop_makes_a_model_of_the_best_so_far(crops, tmp_path):
    cancel, events = CancelToken(), []
    work = iter_train(settings(crops, tmp_path, epochs=50), cancel)
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            folder = end.value
            break
        if events[-1].kind == "epoch" and events[-1].data["epoch"] == 2:
            cancel.cancel()
    assert events[-1].kind == "stopped" and verify(folder)
    assert len([event for event in events if event.kind == "epoch"]) == 3


def test_a_stop_before_anything_was_learnt(crops, tmp_path):
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        train(settings(crops, tmp_path), cancel)
    assert not (tmp_path / "made").exists()


def test_it_ends_early_where_validation_gets_no_better(crops, tmp_path):
    folder, events = train(
        settings(crops, tmp_path, epochs=40, lr=1e-9, patience=2, schedule="constant", ema=0.0)
    )
    assert len([event for event in events if event.kind == "epoch"]) < 40
    assert "no better validation macro-F1 in 2 epochs" in card_of(folder)["training"]["ended_because"]


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "focal", "class_weights": "balanced", "sampler": "balanced", "cutmix": 1.0},
        {"optimiser": "sgd", "schedule": "cosine", "freeze": "progressive", "unfreeze_every": 1, "blur": 0.5},
        {"freeze": "head", "dropout": 0.1},
        {"freeze": "head", "cache_features": False, "noise": 0.05, "erasing": 0.5},
        {"amp": "bf16", "test_share": 0.0},
        {"stain_normalisation": "reinhard"},
        {"minutes": 1e-6, "epochs": 50},
    ],
    ids=str,
)
def test_ways_to_train(crops, tmp_path, options):
    folder, events = train(settings(crops, tmp_path, **options))
    card = card_of(folder)
    assert verify(folder) and events[-1].kind in ("finished", "stopped")
    assert len([event for event in events if event.kind == "epoch"]) == (1 if "minutes" in options else 2)
    if options.get("test_share") == 0.0:
        assert card["test"] == {"touched": "never: no test part was set aside"}
    if "stain_normalisation" in options:
        assert card["stain"]["method"] == "reinhard"
    assert options.items() <= (card["training"]["settings"] | {"test_share": 0.0}).items() or "amp" in options


def test_folds_are_measured_before_the_last_training_and_kept(crops, tmp_path):
    config = settings(crops, tmp_path, protocol="kfold", folds=3, epochs=1)
    folder, events = train(config)
    with (tmp_path / "repeats.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["repeat"] for row in rows] == ["1", "2", "3"] and sum(
        int(row["n_test"]) for row in rows
    ) == 36
    repeats = card_of(folder)["training"]["repeats"]
    assert repeats["n"] == 3
    assert repeats["macro_f1"]["mean"] == pytest.approx(np.mean([float(row["macro_f1"]) for row in rows]))
    _, again = train(config)
    assert not [event for event in again if "repeat" in event.data]


class Plain(nn.Module):
    """A network that knows nothing of timm's ways."""

    def __init__(self, num_classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)
        )

    def forward(self, images):
        return self.layers(images)


@pytest.fixture
def plain():
    registry.entry("resnet18")
    registry.register("plain_for_test", input=InputRule(side=SIDE))(lambda num_classes: Plain(num_classes))
    yield "plain_for_test"
    registry._ENTRIES.pop("plain_for_test")


def test_a_network_without_parts_that_can_be_asked_for(crops, tmp_path, plain):
    folder, _ = train(settings(crops, tmp_path, arch=plain, freeze="none"))
    classifier = load_classifier(folder, "cpu")
    assert classifier.ood_tensors["centre"].shape == (8,)
    assert verify(folder)


def test_going_on_from_a_model_keeps_its_classes_and_adds_new_ones(model, tmp_path):
    data = make_crops(
        tmp_path / "more", each=6, colours={"lymphocyte": (40, 40, 140), "blast": (30, 160, 90)}
    )
    folder, events = train(settings(data, tmp_path / "out", from_model=str(model[0]), epochs=1))
    assert card_of(folder)["classes"] == [*sorted(COLOURS), "blast"]
    assert any("may forget them" in message for message in warnings_of(events))
    assert card_of(folder)["start"].startswith("the model made")


def test_rows_of_old_classes_are_taken_over(model):
    from napari_leukocls.models.weights import read_weights

    old, _ = read_weights(model[0])
    net = registry.create("test_efficientnet", 5)
    fresh = net.get_classifier().weight.detach().clone()
    network.widen(net, {k: v for k, v in old.items() if not k.startswith("ood.")}, 3, "x")
    weight = net.get_classifier().weight.detach()
    torch.testing.assert_close(weight[:3], old["classifier.weight"])
    torch.testing.assert_close(weight[3:], fresh[3:])


def test_a_teachers_opinion_is_learnt_from(model, crops, tmp_path):
    folder, _ = train(settings(crops, tmp_path, teacher=str(model[0]), distil_weight=1.0, epochs=3))
    assert verify(folder)
    data = make_crops(tmp_path / "others", each=4, colours={"a": (1, 99, 3), "b": (99, 2, 3)})
    with pytest.raises(ModelError, match="knows 0 of the classes"):
        train(settings(data, tmp_path / "out", teacher=str(model[0])))


def test_weights_from_a_file(tmp_path, crops):
    from safetensors.torch import save_file

    given = registry.create("test_efficientnet", 7)
    save_file(given.state_dict(), tmp_path / "w.safetensors")
    config = settings(crops, tmp_path / "out", weights=str(tmp_path / "w.safetensors"))
    work = network.start_network(config, ["a", "b"])
    with pytest.raises(StopIteration) as end:
        while True:
            next(work)
    start = end.value.value
    torch.testing.assert_close(start.net.conv_stem.weight, given.conv_stem.weight)
    assert start.note == "weights of w.safetensors" and start.folded
    # The first 400 names of another network do not fit.
    save_file(registry.create("resnet18", 7).state_dict(), tmp_path / "other.safetensors")
    for name, said in (("other.safetensors", "another network"), ("none.safetensors", "no file")):
        with pytest.raises(ModelError, match=said):
            list(
                network.start_network(
                    config.model_copy(update={"weights": (str(tmp_path / name),)}), ["a", "b"]
                )
            )
    torch.save({"x": 1}, tmp_path / "pickle.pt")
    with pytest.raises(ModelError, match="holds no state dict"):
        list(
            network.start_network(
                config.model_copy(update={"weights": (str(tmp_path / "pickle.pt"),)}), ["a", "b"]
            )
        )


@pytest.mark.parametrize("less", [0.0, 1e-5, 1e-3])
def test_folded_weights_are_noticed_however_their_variance_was_written(less):
    net = registry.create("resnet10t", 3)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.fill_(1 - less)
        assert is_folded(net)
        net.bn1.running_mean[0] = 0.1
    assert not is_folded(net)


def test_unfolding_changes_no_output():
    torch.manual_seed(0)
    net = registry.create("resnet10t", 3).eval()
    images = torch.rand(16, 3, 32, 32)
    with torch.no_grad():
        before = net(images)
        unfold_batch_norm(net, images)
        torch.testing.assert_close(net(images), before, rtol=1e-3, atol=1e-4)
    assert net.bn1.running_mean.abs().sum() > 0


def test_without_a_network_training_says_that_it_starts_from_scratch(monkeypatch, crops, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    work = network.start_network(settings(crops, tmp_path, pretrained=True), ["a", "b"])
    said = [event.data["message"] for event in work if event.kind == "warning"]
    assert len(said) == 1 and "training starts from scratch; give --weights FILE" in said[0]
    assert "their server cannot be reached" in said[0], "asked once, and not for half a minute"


def test_a_size_that_the_network_does_not_take(crops, tmp_path):
    from napari_leukocls.errors import LeukoclsError

    with pytest.raises(LeukoclsError, match="mvitv2_tiny"):
        train(settings(crops, tmp_path, arch="mvitv2_tiny"))


def test_the_command_trains_and_says_where_the_model_is(crops, tmp_path, capsys):
    from napari_leukocls.cli import main

    words = ["train", str(crops), "--arch", "test_efficientnet", "--no-pretrained", "--out", str(tmp_path)]
    words += ["--side-px", str(SIDE), "--ready-crops", "--epochs", "1", "--batch-size", "8", "--json"]
    assert main(words) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert result["status"] == "finished" and verify(tmp_path / "test_efficientnet")
    assert "36 crops of 3 classes" in said.err and "epoch 1/1" in said.err
    assert main([*words, "--leave-out", "artefact"]) == 1
    assert "the data has no such class" in capsys.readouterr().err.splitlines()[-1]


def test_the_api_trains(crops, tmp_path):
    from napari_leukocls.api import train as api_train

    events = []
    folder = api_train(
        crops,
        tmp_path,
        on_event=events.append,
        **settings(crops, tmp_path, epochs=1).model_dump(exclude={"data", "out"}),
    )
    assert verify(folder) and events[-1].kind == "finished"
