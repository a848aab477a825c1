"""``python -m napari_leukocls.training CONFIG.json``: train, and say what happens in JSON lines.

Events go to standard output, one a line; ``stop`` on standard input, SIGTERM or SIGINT is a soft stop.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from napari_leukocls.errors import ArgumentError, LeukoclsError
from napari_leukocls.progress import CancelToken, drain
from napari_leukocls.training.config import TrainConfig, make_checked
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.training.process import listen


def read_config(path: Path) -> TrainConfig:
    """Read settings that `TrainConfig` wrote.

    Parameters
    ----------
    path : Path
        JSON file.

    Returns
    -------
    TrainConfig

    Raises
    ------
    ArgumentError
        With one line.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(raw, dict):
        raise ArgumentError(f"{path} holds no settings of a training.")
    return make_checked(**raw)


def main(arguments: list[str]) -> int:
    """Train.

    Parameters
    ----------
    arguments : list of str
        The file of the settings.

    Returns
    -------
    int
        Exit status.
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    speaks = os.environ.get("RANK", "0") == "0"
    # Whatever a library prints must not get between the events.
    out, sys.stdout = sys.stdout, sys.stderr

    def tell(event: TrainEvent) -> None:
        if speaks:
            out.write(event.to_json() + "\n")
            out.flush()

    try:
        if len(arguments) != 1:
            raise ArgumentError(
                "give the file of a training's settings: python -m napari_leukocls.training FILE"
            )
        config = read_config(Path(arguments[0]))
    except LeukoclsError as error:
        tell(TrainEvent("failed", {"message": str(error), "exit_status": error.exit_status}))
        return error.exit_status
    from napari_leukocls.training.run import iter_train

    cancel = CancelToken()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: cancel.cancel())
    threading.Thread(target=listen, args=(cancel, sys.stdin), daemon=True).start()
    try:
        drain(iter_train(config, cancel), tell)
    except LeukoclsError as error:
        # The event says it already.
        return error.exit_status
    except Exception as error:  # noqa: BLE001 - the outermost frame: every error becomes one event
        logging.getLogger(__name__).exception("training failed")
        message = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
        tell(TrainEvent("failed", {"message": message, "exit_status": 2}))
        return 2
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    # Threads that wait on standard input would hold the interpreter's end up.
    os._exit(status)
