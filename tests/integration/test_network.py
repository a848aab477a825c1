"""The product never calls out unasked: the commands run where every connection and look-up is caught."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from napari_leukocls.paths import sample_smear

ROOT = Path(__file__).resolve().parents[2]

#: Python runs this before anything else; what is tried is noted, and refused.
GUARD = """
import os, socket

def caught(what):
    def refuse(*args, **kwargs):
        with open(os.environ["CAUGHT"], "a") as file:
            file.write(f"{what}{args[1:]}\\n")
        raise OSError("no network here")
    return refuse

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, caught(name))
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, caught(name))
"""

COMMANDS = """
import sys
from napari_leukocls.cli import main
from napari_leukocls.review import open_store
field, crops, out = sys.argv[1:]
formats = "geojson,coco,ometiff,anndata,xlsx,fhir,hl7,corrected,positions"
open_store().close()
statuses = [
    main(["models", "list"]),
    main(["models", "verify", "default"]),
    main(["analyze", field, "--out", out + "/analyze", "--format", formats, "--heatmaps", "1"]),
    main(["evaluate", "default", crops, "--out", out + "/evaluate", "--um-per-px", "0.16"]),
    main(["explain", "default", field, "--out", out + "/explain", "--pixel-size-um", "0.16"]),
    main(["audit", "verify"]),
]
print(statuses)
sys.exit(max(statuses))
"""


def test_commands_run_with_every_socket_blocked(tmp_path: Path) -> None:
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    smear = Image.open(sample_smear())
    smear.crop((0, 0, 400, 400)).save(tmp_path / "field.png")
    for name in ("neutrophil", "lymphocyte"):
        (tmp_path / "crops" / name).mkdir(parents=True)
        for number in range(3):
            left = 150 * number
            smear.crop((left, 0, left + 150, 150)).save(tmp_path / "crops" / name / f"{number}.png")
    words = [str(tmp_path / "field.png"), str(tmp_path / "crops"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *words],
        env={
            **os.environ,
            "CAUGHT": str(tmp_path / "caught"),
            "PYTHONPATH": os.pathsep.join([str(tmp_path / "guard"), str(ROOT)]),
            "LEUKOCLS_REVIEW_STORE": str(tmp_path / "review.sqlite3"),
            # No cache of an earlier download, either.
            "HF_HOME": str(tmp_path / "hf"),
            "TORCH_HOME": str(tmp_path / "torch"),
            "CELLPOSE_LOCAL_MODELS_PATH": str(tmp_path / "cellpose"),
        },
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    caught = tmp_path / "caught"
    assert not caught.exists(), caught.read_text()
    assert (tmp_path / "evaluate" / "metrics.json").is_file()
    assert (tmp_path / "analyze" / "field" / "report.fhir.json").is_file()
    assert (tmp_path / "explain" / "report.html").is_file()
