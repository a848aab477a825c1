"""The pages: their commands are commands, their links lead somewhere, their Python compiles."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from napari_leukocls import __version__
from napari_leukocls.cli import cli
from scripts.documentation import command_line, docks, model_cards, validation
from scripts.documentation.links import ROOT, anchors, is_external, links, without_code
from scripts.documentation.relocation import relocated
from tests.pages import NAMES, blocks, command_lines, shell_lines, spans_of, text_of

#: Pages that are made while the site is built, as they are named from docs/.
MADE = {
    "docs/validation.md",
    "docs/reference/command-line.md",
    *(f"docs/{name}" for name in model_cards.pages()),
}

#: Links that leave the checkout.
OUTSIDE = {
    "https://github.com/apple2373/wbcatt",
    "https://github.com/jacobgil/pytorch-grad-cam",
    "https://keepachangelog.com/en/1.1.0/",
    "https://semver.org/",
    "https://www.contributor-covenant.org/version/2/1/code_of_conduct/",
}


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words name, and the words after it."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if words[0].isupper():
            break
        assert words[0] in command.commands or "|" in words[0], f"no command {words[0]}"
        command, words = command.commands[words[0].split("|")[0]], words[1:]
    return command, words


def unknown_options(words: list[str]) -> list[str]:
    """The options among the words that the command does not have."""
    command, rest = command_of(words)
    params = command.get_params(click.Context(command))
    known = {name for param in params for name in (*param.opts, *param.secondary_opts)}
    if command is cli:
        known.add("--version")
    named = [word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return [word for word in named if word not in known]


@pytest.mark.parametrize("name", NAMES)
def test_each_command_and_option_exists(name: str) -> None:
    wrong = {" ".join(words): unknown for words in command_lines(name) if (unknown := unknown_options(words))}
    assert not wrong


@pytest.mark.parametrize("name", NAMES)
def test_each_program_of_the_checkout_that_a_page_calls_is_there(name: str) -> None:
    """Targets of make with their variables, and modules and files that Python runs with their options."""
    makefile = text_of(ROOT / "Makefile")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.M))
    absent = []
    for line in (*shell_lines(name), *spans_of(name)):
        if made := re.match(r"make ([a-z][\w-]*)(.*)", line):
            variables = re.findall(r"\b([A-Z_]+)=", made[2])
            absent += [line] if made[1] not in targets else []
            absent += [line for one in variables if not re.search(rf"\b{one}\b", makefile)]
        elif call := CALL.match(line):
            path = program_file(call)
            if path is not None:
                options = re.findall(r"(?<=\s)--[a-z][\w-]*", call["rest"].split("  #")[0])
                absent += [line] if not path.is_file() else []
                absent += [
                    f"{one}: {line}" for one in options if path.is_file() and one not in source_of(path)
                ]
    assert not absent


#: A call of a program of the checkout, as a page writes it.
CALL = re.compile(
    r"(?:xvfb-run -a (?:-s \"[^\"]*\" )?)?(?:\w+=\S+ )*(?:\S*/)?python3? "
    r"(?:-m (?P<module>[\w.]+)|(?P<file>\S+\.py))(?P<rest>.*)"
)


def program_file(call: re.Match[str]) -> Path | None:
    """The file that a call runs; None for a program that is not of this checkout."""
    if call["file"]:
        return ROOT / call["file"]
    parts = call["module"].split(".")
    if parts[0] not in ("scripts", "benchmarks", "napari_leukocls", "tests") or parts[-1].isupper():
        return None
    path = ROOT.joinpath(*parts)
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def source_of(path: Path) -> str:
    """The text of a program, and of the modules beside it that it imports."""
    text = text_of(path)
    near = re.findall(r"^from (scripts|benchmarks)(?:\.(\w+))? import (.+)$", text, re.M)
    names = {part for _, module, names in near for part in (module, *re.findall(r"\w+", names)) if part}
    beside = [path.with_name(f"{name}.py") for name in sorted(names)]
    return "\n".join([text, *(text_of(one) for one in beside if one.is_file())])


def test_commands_are_found_in_the_pages() -> None:
    assert sum(1 for name in NAMES for _ in command_lines(name)) > 60


@pytest.mark.parametrize(
    "words",
    [["--version"], ["models", "list"], ["models", "verify", "default"], ["train", "--preset", "list"]],
)
def test_quick_commands_of_the_pages_run(words: list[str]) -> None:
    assert words == ["--version"] or any(words == line for name in NAMES for line in command_lines(name))
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("name", NAMES)
def test_each_link_leads_to_a_file_and_a_heading(name: str) -> None:
    broken = []
    for link in links(text_of(ROOT / name)):
        target = link["target"]
        if is_external(target):
            continue
        path, _, anchor = target.partition("#")
        found = Path(os.path.normpath((ROOT / name).parent / path)) if path else ROOT / name
        if str(found.relative_to(ROOT)) in MADE:
            continue
        if not found.exists() or (anchor and found.suffix == ".md" and anchor not in anchors(text_of(found))):
            broken.append(target)
    assert not broken


def test_links_to_other_sites_are_few_and_were_looked_up() -> None:
    """No test reaches the network: somebody opens each of these once, when it is written into a page."""
    outside = {
        link["target"]
        for name in NAMES
        for link in links(text_of(ROOT / name))
        if is_external(link["target"])
    }
    assert outside == OUTSIDE
    # No page has a kind of link that `links` does not see.
    for name in NAMES:
        plain = without_code(text_of(ROOT / name))
        assert not re.search(r"\]\[|<a |<https?:|\]\([^)\s]*\s", plain), name


def test_no_page_is_forgotten() -> None:
    made = {".venv", ".git", "build", "dist", "site"}
    folders = [
        path
        for path in ROOT.iterdir()
        if path.is_dir() and path.name not in made and "cache" not in path.name
    ]
    pages = [*ROOT.glob("*.md"), *(page for folder in folders for page in folder.rglob("*.md"))]
    assert {str(page.relative_to(ROOT)) for page in pages} == set(NAMES)


def test_anchors_in_made_pages_are_right() -> None:
    made = {"docs/validation.md": validation.page()}
    for name in NAMES:
        for link in links(text_of(ROOT / name)):
            path, _, anchor = link["target"].partition("#")
            where = os.path.relpath(os.path.normpath((ROOT / name).parent / path), ROOT)
            assert not anchor or where not in made or anchor in anchors(made[where]), (name, link["target"])


@pytest.mark.parametrize("name", NAMES)
def test_python_of_the_pages_compiles(name: str) -> None:
    for block in blocks(name, "python", "py"):
        ast.parse(block)


def public_names(module: str) -> set[str]:
    """The names that a module of the package defines, imports or lists, and its submodules; nothing is imported."""
    base = ROOT.joinpath(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    names = {one.stem for one in base.glob("*")} if base.is_dir() else set()
    for node in ast.parse(text_of(path)).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {one.asname or one.name for one in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
            if "__all__" in names and isinstance(node.value, (ast.List, ast.Tuple)):
                names |= {item.value for item in node.value.elts if isinstance(item, ast.Constant)}
    return names


def test_python_of_the_pages_imports_what_is_there() -> None:
    """Names that a page imports from this package are names of this package."""
    missing = []
    for name in NAMES:
        for block in blocks(name, "python", "py"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("napari_leukocls"):
                    names = public_names(str(node.module))
                    missing += [
                        f"{name}: {node.module}.{one.name}" for one in node.names if one.name not in names
                    ]
    assert not missing


def test_every_page_is_in_the_navigation_or_is_added_to_it() -> None:
    settings = yaml.load(text_of(ROOT / "mkdocs.yml"), Loader=yaml.BaseLoader)
    sections = [section for section in settings["nav"] for section in section]
    assert {"The docks", "Models", "Work"} <= set(sections)
    assert set(docks.sections()) <= set(docks.dock_names()) and len(docks.sections()) >= 5


def test_the_site_calls_nothing_from_the_network() -> None:
    settings = yaml.load(text_of(ROOT / "mkdocs.yml"), Loader=yaml.BaseLoader)
    assert settings["theme"]["font"] == "false"
    assert "offline" in settings["plugins"]
    assert settings["extra"]["polyfills"] == ["javascripts/iframe-worker.js"]
    assert not re.search(r"https?://", text_of(ROOT / "mkdocs.yml"))


def test_links_of_the_checkout_become_links_of_the_site() -> None:
    text = "[a](../CONTRIBUTING.md#house-rules) [b](plugin.md#train) [c](../models/default/model.json) `[d](x.md)`"
    assert relocated(text, "docs/start.md", "start.md") == (
        "[a](contributing.md#house-rules) [b](docks/train.md) c `[d](x.md)`"
    )
    assert (
        relocated("![p](images/demo.png)", "docs/plugin.md", "docks/train.md") == "![p](../images/demo.png)"
    )
    assert relocated("[s](docs/start.md#scale)", "README.md", "index.md") == "[s](start.md#scale)"


def test_each_dock_and_each_model_has_a_page() -> None:
    pages = docks.pages()
    assert {f"docks/{name.lower()}.md" for name in docks.sections()} <= set(pages)
    assert "## Train" not in pages["plugin.md"] and "# The Train dock" in pages["docks/train.md"]
    assert {"models/default.md", "models/accurate.md", "models/compact.md"} <= set(model_cards.pages())


def test_the_page_of_the_command_line_has_every_command() -> None:
    page = command_line.page()
    assert all(f"## {name}\n" in page for name, _ in command_line.commands())
    assert "## leukocls models verify" in page and "`--pixel-size-um F`" in page


def test_kept_figures_are_complete() -> None:
    for one in validation.kept():
        assert set(validation.FIELDS) <= set(one), one.get("title")
        assert all(len(row) == len(one["columns"]) for row in one["rows"]), one["title"]
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", one["date"])


def test_the_citation_names_this_version_and_has_what_the_format_asks_for() -> None:
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software" and citation["authors"]
    assert citation["license"] == "BSD-3-Clause"
    assert str(citation["version"]) == __version__.split(".dev")[0]
    assert str(citation["version"]) in text_of(ROOT / "docs" / "cite.md")
