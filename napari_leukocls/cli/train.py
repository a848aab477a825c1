"""``leukocls train``: a classifier is trained; every field of `TrainConfig` is an option."""

from __future__ import annotations

import json
import signal
import tomllib
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from napari_leukocls.cli._base import DECIMAL, Command, ProgressLine, print_json
from napari_leukocls.errors import ArgumentError, LeukoclsError
from napari_leukocls.plurals import count_text

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.events import TrainEvent

#: Fields that are not made into options: they have their own, or are no settings.
_OWN = frozenset({"version", "data", "from_model", "preset", "out"})


class _TrainCommand(Command):
    """A command that makes its options from the settings when it is used, so that others start quickly."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._made = False

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not self._made:
            from napari_leukocls.training.config import TrainConfig

            for name, field in TrainConfig.model_fields.items():
                if name not in _OWN:
                    self.params.append(_option(name, field))
            self._made = True
        return super().get_params(ctx)


def _option(name: str, field: Any) -> click.Option:
    """The option of one field."""
    flag = f"--{name.replace('_', '-')}"
    kind = _plain_type(field.annotation)
    given = "" if field.default in (None, "", (), {}) else f"[default: {_shown(field.default)}]"
    text = f"{field.description or ''} {given}".strip()
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}"], default=None, help=text)
    settings: dict[str, Any] = {"default": None, "help": text}
    if typing.get_origin(kind) is Literal:
        settings["type"] = click.Choice(list(typing.get_args(kind)))
    elif kind is tuple or typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        if Ellipsis in inner:
            settings |= {
                "multiple": True,
                "default": (),
                "metavar": "FILE" if name == "weights" else "CLASS",
            }
        else:
            settings |= {"type": DECIMAL, "nargs": len(inner)}
    elif kind in (int, float, str):
        settings |= {
            "type": DECIMAL if kind is float else kind,
            "metavar": {int: "N", float: "F", str: "TEXT"}[kind],
        }
    else:
        settings |= {"type": str, "metavar": "JSON", "callback": _json}
    return click.Option([flag], **settings)


def _plain_type(annotation: Any) -> Any:
    """The type of a value of a field: float for ``Annotated[float, ...] | None``."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _json(ctx: click.Context, option: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    try:
        return json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not JSON ({error}).") from error


def read_settings(path: Path) -> dict[str, Any]:
    """Settings from a TOML or JSON file.

    Parameters
    ----------
    path : Path
        JSON if its suffix is ``.json``.

    Returns
    -------
    dict
        Values by the names of the fields of `TrainConfig`.

    Raises
    ------
    ArgumentError
        If the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ArgumentError(f"the settings {path} cannot be read as TOML or JSON ({error}).") from error
    if not isinstance(raw, dict):
        raise ArgumentError(f"the settings {path} are not a table: write each setting on its own line.")
    return raw


@click.command(cls=_TrainCommand)
@click.argument("data", required=False, default="")
@click.option("--from", "from_model", metavar="NAME", help="Model to start from: a name or a folder.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the model and records."
)
@click.option("--preset", metavar="NAME", help="Set of settings to start from; --preset list shows them.")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with settings, TOML or JSON.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(
    data: str,
    from_model: str | None,
    out: Path | None,
    preset: str | None,
    file: Path | None,
    as_json: bool,
    **fields: Any,
) -> int:
    """Train or fine-tune a classifier on labelled crops.

    DATA is a folder with one folder for each class, a table with the columns file and class, and optionally
    patient, slide, split and um_per_px, or annotations of another program; 'leukocls data inspect' checks it.
    Give --arch or --from. To continue an interrupted training, give the same command again.
    """
    from napari_leukocls.training.config import make_train_config, preset_names, preset_summary

    if preset == "list":
        for name in preset_names():
            click.echo(f"{name:<10} {preset_summary(name)}")
        return 0
    settings = read_settings(file) if file is not None else {}
    given = {"data": data, "from_model": from_model, "out": str(out) if out is not None else None, **fields}
    settings |= {name: value for name, value in given.items() if value not in (None, "", ())}
    if "out" not in settings:
        raise ArgumentError("the folder of the model is missing: give --out DIR.")
    preset = preset or settings.pop("preset", None)
    settings.pop("preset", None)
    config = make_train_config(preset or None, **settings)
    if config.data and not Path(config.data).exists():
        raise ArgumentError(
            f"there is no '{config.data}'; give a folder with one folder for each class, a table with the columns "
            "file and class, or annotations (see 'leukocls data inspect --help')."
        )
    return train_and_print(config, as_json)


def train_and_print(config: TrainConfig, as_json: bool) -> int:
    """Train, and print the result.

    Parameters
    ----------
    config : TrainConfig
    as_json : bool

    Returns
    -------
    int
        The exit status: 1 if the model to adapt is kept, as none is better.
    """
    last = run_training(config)
    if as_json:
        print_json({"status": last.kind, **last.data})
    elif last.kind == "kept":
        click.echo(last.data["message"])
    else:
        print_result(last.data)
    return int(last.kind == "kept")


def run_training(config: TrainConfig) -> TrainEvent:
    """Train with progress on standard error. Ctrl-C ends the training and keeps the model.

    Parameters
    ----------
    config : TrainConfig

    Returns
    -------
    TrainEvent
        The last one.
    """
    from napari_leukocls.progress import CancelToken, Progress
    from napari_leukocls.training.run import iter_train

    cancel, line = CancelToken(), ProgressLine()

    def stop(number: int, frame: object) -> None:
        if cancel.cancelled:
            raise KeyboardInterrupt
        click.echo(
            "\nthe training ends soon and keeps the best weights so far; press Ctrl-C again to end it at once.",
            err=True,
        )
        cancel.cancel()

    before = signal.signal(signal.SIGINT, stop)
    last = None
    try:
        for event in iter_train(config, cancel):
            last = event
            if event.kind == "progress":
                line(Progress(event.data["stage"], event.data["done"], event.data["total"]))
            else:
                line.close()
                _show(event)
    finally:
        line.close()
        signal.signal(signal.SIGINT, before)
    if last is None:
        raise LeukoclsError("the training ended without a result; please report this as a bug.")
    return last


def _show(event: TrainEvent) -> None:
    """Print an event as one line on standard error; the caller prints the last one."""
    data = event.data
    if event.kind == "epoch":
        again = f"repeat {data['repeat']} " if "repeat" in data else ""
        text = (
            f"{again}epoch {data['epoch']}/{data['epochs']}: loss {data['loss']:.4f}, validation macro-F1 "
            f"{data['val_macro_f1']:.4f}, loss {data['val_loss']:.4f}{' *' if data['best'] else ''}"
        )
    elif event.kind == "split":
        parts = (f"{name} {sum(counts.values())}" for name, counts in data["counts"].items())
        text = f"{', '.join(parts)} crops; grouped by {data['grouped_by']}, {data['left_out']} left out"
    elif event.kind == "started":
        n_classes = count_text(len(data["classes"]), "class", "classes")
        text = f"{count_text(data['crops'], 'crop')} of {n_classes}, on {data['device']}"
    elif event.kind in ("warning", "log"):
        text = ("warning: " if event.kind == "warning" else "") + data["message"]
    else:
        return
    click.echo(text, err=True)


def print_result(data: dict[str, Any]) -> None:
    """Print the figures of a new model.

    Parameters
    ----------
    data : dict
        Of the last event.
    """
    for part in ("validation", "test"):
        figures = data.get(part) or {}
        if "accuracy" in figures and "macro_f1" in figures:
            click.echo(
                f"{part:<12} n {figures['n']}, accuracy {figures['accuracy']:.4f}, macro-F1 "
                f"{figures['macro_f1']:.4f}"
            )
    from napari_leukocls.training.adapt import adaptation_lines

    adaptation = data.get("adaptation", {})
    for name, figures in adaptation.get("recall", {}).items():
        old, new = (f"{figures[k]:.3f}" if figures.get(k) is not None else "-" for k in ("before", "after"))
        click.echo(f"{name:<12} recall before {old}, after {new} (n {figures['n']})")
    for line in adaptation_lines(adaptation):
        click.echo(line)
    click.echo(f"the model is {data['model']}: use it with --classifier {data['model']}")
