"""Licences, coverage floors, and files that do not belong into the repository."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from scripts import audit_licences, check_files, coverage_floors


@pytest.mark.parametrize(
    "licence",
    [
        "MIT",
        "BSD-3-Clause",
        "BSD License",
        "Apache Software License",
        "MPL-2.0",
        "LGPL-3.0-only",
        "GNU Lesser General Public License v3 (LGPLv3)",
        "MIT OR GPL-3.0-only",
        "Python Software Foundation License",
    ],
)
def test_licences_that_fit(licence: str) -> None:
    assert audit_licences.verdict("some-package", licence) == ""


@pytest.mark.parametrize(
    "licence",
    [
        "",
        "UNKNOWN",
        "GPL-3.0-only",
        "GPL-3.0-only AND MIT",
        "AGPL-3.0-or-later",
        "GNU General Public License v3 (GPLv3)",
        "GNU Affero General Public License v3",
        "CC-BY-NC-4.0",
        "Proprietary",
    ],
)
def test_licences_that_do_not_fit_or_are_not_known(licence: str) -> None:
    assert audit_licences.verdict("some-package", licence)


def test_coverage_is_of_core_and_of_widgets() -> None:
    def file(covered: int, whole: int) -> dict[str, dict[str, int]]:
        return {"summary": {"covered_lines": covered, "num_statements": whole}}

    report = {
        "files": {"napari_leukocls/types.py": file(9, 10), "napari_leukocls/widgets/a/dock.py": file(1, 4)}
    }
    assert coverage_floors.shares(report) == {"core": 90.0, "widgets": 25.0}


def test_the_badge_is_svg_with_the_figure() -> None:
    root = ElementTree.fromstring(coverage_floors.badge("coverage", 91.4))
    assert root.tag.endswith("svg") and "91 %" in "".join(root.itertext())


def test_pickles_and_large_files_are_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "net.pth").write_bytes(b"1")
    (tmp_path / "note.md").write_text("1")
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(check_files.LARGEST + 1)
    assert "pickles" in check_files.problems(tmp_path / "net.pth")[0]
    assert check_files.problems(tmp_path / "large.bin") and not check_files.problems(tmp_path / "note.md")
