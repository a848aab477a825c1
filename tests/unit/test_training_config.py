"""Settings of a training: presets, options, and what is refused before anything is loaded."""

from __future__ import annotations

import json
import sys

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from napari_leukocls.cli.train import train
from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.training.config import TrainConfig, make_train_config, preset_names, preset_summary
from napari_leukocls.training.events import KINDS, TrainEvent

PAPERS = {
    "paper-s1": "s1_efficientnet_b0",
    "paper-s2": "efficientnetb3_vit",
    "paper-s3": "efficientnetv2_b3_se",
    "paper-s4": "qlvit",
    "paper-s5": "cadbcnn",
}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_makes_settings_and_can_be_overridden(name):
    config = make_train_config(name, data="d", out="o", epochs=3)
    assert (config.preset, config.epochs) == (name, 3)
    assert preset_summary(name)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(("name", "architecture"), PAPERS.items())
def test_presets_of_the_papers_name_registered_architectures(name, architecture):
    from napari_leukocls.architectures import registry

    config = make_train_config(name, data="d", out="o")
    assert config.arch == architecture
    assert not registry.entry(architecture).input.problem(config.side_px, config.side_px)


def test_the_first_paper_as_its_table_has_it():
    config = make_train_config("paper-s1", data="d", out="o")
    assert (config.optimiser, config.schedule, config.lr, config.batch_size) == (
        "adamw",
        "onecycle",
        1e-3,
        32,
    )
    assert (config.label_smoothing, config.weight_decay, config.clip, config.patience) == (0.1, 1e-4, 1, 10)
    assert (config.hflip, config.vflip, config.rotation, config.erasing) == (0.5, 0.2, 15, 0.1)
    assert (config.dropout, config.validation_share, config.test_share) == (0.4, 0.15, 0.15)


def test_branches_of_weights_are_an_option_that_repeats(monkeypatch, tmp_path):
    seen = []

    def run(config):
        seen.append(config)
        return TrainEvent("kept", {"message": ""})

    monkeypatch.setattr(sys.modules["napari_leukocls.cli.train"], "run_training", run)
    words = [str(tmp_path), "--arch", "cadbcnn", "--out", "o", "--no-augmentation", "--decay-all"]
    words += ["--weights", "resnet18=a", "--weights", "resnet34=b"]
    CliRunner().invoke(train, words, catch_exceptions=False, standalone_mode=False)
    assert seen[0].weights == ("resnet18=a", "resnet34=b")
    assert not seen[0].augmentation and seen[0].decay_all
    assert make_train_config(data="d", out="o", arch="a", weights="one").weights == ("one",)


def test_presets_of_papers_know_their_other_networks():
    made = {
        arch: make_train_config("paper-s2", data="d", out="o", arch=arch)
        for arch in ("resnet50_vit", "inceptionv3_vit", "customcnn_vit", "shared_vit")
    }
    assert all(made[name].arguments == {"variant": "table"} for name in list(made)[:3])
    assert made["shared_vit"].arguments == {} and made["customcnn_vit"].freeze == "none"
    assert {config.freeze for name, config in made.items() if name != "customcnn_vit"} == {"progressive"}
    own, baseline = (
        make_train_config("paper-s4", data="d", out="o", **more) for more in ({}, {"arch": "mvitv2_tiny"})
    )
    ladder = make_train_config("paper-s4", data="d", out="o", arch="qlvit_v2")
    assert (own.epochs, own.pretrained) == (ladder.epochs, ladder.pretrained) == (500, False)
    assert (baseline.epochs, baseline.pretrained) == (50, True)
    more = make_train_config("paper-s4", data="d", out="o", arch="mvitv2_tiny", epochs=3)
    assert (more.epochs, more.pretrained) == (3, True)


def test_a_model_takes_the_place_of_a_presets_architecture():
    config = make_train_config("quick", data="d", out="o", from_model="default")
    assert (config.arch, config.from_model, config.side_px) == ("", "default", None)
    other = make_train_config("adapt", data="d", out="o", arch="resnet18", rehearse=False)
    assert (other.arch, other.from_model) == ("resnet18", "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": 0}, "epochs"),
        ({"lr": -1}, "lr"),
        ({"arch": "a", "from_model": "b"}, "either an architecture"),
        ({"arch": ""}, "either an architecture"),
        ({"data": ""}, "labelled crops"),
        ({"validation_share": 0.6, "test_share": 0.5}, "less than a tenth"),
        ({"rehearse": True}, "from_model"),
        ({"arch": "", "from_model": "default", "side_px": 99}, "side_px comes from the model"),
        ({"name": "../up"}, "name"),
    ],
)
def test_wrong_settings_are_said_in_one_line(options, said):
    with pytest.raises(ArgumentError, match=said) as error:
        make_train_config(**{"data": "d", "out": "o", "arch": "resnet18", **options})
    assert "\n" not in str(error.value)


def test_an_unknown_preset_is_met_with_the_nearest():
    with pytest.raises(ArgumentError, match="did you mean 'paper-s1'"):
        make_train_config("papers1", data="d", out="o", arch="resnet18")


def test_every_setting_is_an_option_of_the_command():
    with click.Context(train) as context:
        flags = {flag for option in train.get_params(context) for flag in option.opts}
    named = {f"--{name.replace('_', '-')}" for name in TrainConfig.model_fields}
    assert named - flags == {"--version", "--data", "--from-model"}
    assert {"--from", "--preset", "--config", "--json"} <= flags


def test_the_command_lists_presets_and_says_what_is_missing(tmp_path):
    listed = CliRunner().invoke(train, ["--preset", "list"])
    assert all(name in listed.output for name in preset_names())
    for words, said in (
        (["d", "--arch", "resnet18"], "--out"),
        (["nowhere", "--arch", "resnet18", "--out", "o"], "there is no 'nowhere'"),
        (["d", "--out", "o", "--arch", "a", "--arguments", "{"], "not JSON"),
    ):
        result = CliRunner().invoke(train, words)
        assert result.exit_code and said in f"{result.output}{result.exception}"


def test_a_settings_file_and_the_command_line_over_it(tmp_path):
    from napari_leukocls.cli.train import read_settings

    file = tmp_path / "mine.toml"
    file.write_text('arch = "resnet18"\nepochs = 7\nleave_out = ["artefact"]\n', encoding="utf-8")
    config = make_train_config(data="d", out="o", **{**read_settings(file), "epochs": 9})
    assert (config.arch, config.epochs, config.leave_out) == ("resnet18", 9, ("artefact",))
    file.write_text("epochs =", encoding="utf-8")
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_settings(file)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.sampled_from(KINDS), st.dictionaries(st.text(), plain, max_size=4))
def test_events_survive_their_line(kind, data):
    event = TrainEvent(kind, data)
    line = event.to_json()
    assert "\n" not in line
    assert TrainEvent.from_json(line) == event


def test_numbers_that_json_has_not_become_null():
    assert json.loads(TrainEvent("epoch", {"loss": float("nan"), "a": [float("inf")]}).to_json())["data"] == {
        "loss": None,
        "a": [None],
    }


@pytest.mark.parametrize("line", ["", "{}", "hello", '{"kind": "party", "data": {}}', "[1]"])
def test_what_is_no_event_is_refused(line):
    with pytest.raises(InputError):
        TrainEvent.from_json(line)
