"""List the licence of every package of the environment, and fail on those that are unknown or do not fit BSD-3-Clause.

    python -m scripts.audit_licences [--all]

Only what the packages' own metadata state is read; nothing is asked of the network. A package whose metadata are
unclear stands in `SETTLED`, with what its licence file says. Those under the GPL stand in `CHOSEN`, each with a reason:
no wheel of this project holds them or needs them.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib.metadata import Distribution, distributions

#: Licences that a BSD program may depend on. Weak copyleft (LGPL, MPL) stays with the library that has it.
FITTING = re.compile(
    r"\b(MIT(-0|-CMU)?|BSD|0BSD|Apache|ISC|PSF|Python Software Foundation|ZPL|Zlib|HPND|CC0|Unlicense|Public Domain|MPL"
    r"|Mozilla|LGPL|Lesser General Public|Boost|BSL-1.0|Unicode|NVIDIA|WTFPL|Artistic)\b",
    re.I,
)
STRONG = re.compile(
    r"\b(?<!L)(A?GPL|(Affero )?GNU General Public)\b|(?<!Lesser )\bGeneral Public License", re.I
)
#: Packages whose metadata name no licence, or a text: what the file in the package says.
SETTLED = {
    "bioimageio-core": "MIT",
    "bioimageio-spec": "MIT",
    "cuda-toolkit": "NVIDIA proprietary",  # an empty package that names the parts of CUDA that torch needs
    "pycocotools": "BSD-2-Clause",  # its metadata say FreeBSD
    "segment-anything": "Apache-2.0",
}
#: Under the GPL, and why they may be here.
CHOSEN = {
    "codespell": "a developer's tool",
    "pyqt6": "the user chooses the Qt binding; PySide6 is under the LGPL",
}


def name_of(distribution: Distribution) -> str:
    """The normalised name of a package."""
    return re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()


def licence_of(distribution: Distribution) -> str:
    """What the metadata of a package state: its expression, its classifiers, or the first line of its text."""
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    if named := [line.split(" :: ")[-1] for line in classifiers if not line.endswith("OSI Approved")]:
        return ", ".join(named)
    text = str(metadata.get("License") or "").strip()
    return text.splitlines()[0][:80] if text else ""


def verdict(name: str, licence: str) -> str:
    """Empty if the licence fits; otherwise what is wrong."""
    if name in CHOSEN:
        return ""
    if not licence or licence.upper() == "UNKNOWN":
        return "no licence is stated"
    if STRONG.search(licence) and " OR " not in licence:
        return "strong copyleft"
    return "" if FITTING.search(licence) else "not known to fit"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--all", action="store_true", help="print every package, not only those that are in doubt"
    )
    args = parser.parse_args()
    found = {name_of(one): SETTLED.get(name_of(one)) or licence_of(one) for one in distributions()}
    doubts = 0
    for name, licence in sorted(found.items()):
        wrong = verdict(name, licence)
        doubts += bool(wrong)
        if wrong or args.all:
            print(f"{name:<32} {licence or '-':<60} {wrong or CHOSEN.get(name, '')}")
    print(f"{len(found)} packages; {doubts} in doubt.")
    return int(bool(doubts))


if __name__ == "__main__":
    sys.exit(main())
