"""Every public function and method names its parameters in a `Parameters` section, as numpydoc writes them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import napari_leukocls

PACKAGE = Path(napari_leukocls.__file__).parent
#: The head of an entry: `name : type`, or `first, second : type`.
ENTRY = re.compile(r"^(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: : .+)?$")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(node: ast.AST) -> Iterator[Function]:
    """Functions of a module, and methods of its public classes, whose names have no leading underscore."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public_functions(child)
        elif isinstance(child, Function) and not child.name.startswith("_"):
            yield child


def is_exempt(function: Function) -> bool:
    """Click commands, whose options carry their own help, and overloads and setters, which have no docstring."""
    decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
    return any(re.search(r"\.(command|group|setter)\b|^(typing\.)?overload$", text) for text in decorators)


def parameters(function: Function) -> set[str]:
    """Names of the parameters of a function, without those that a method or a caller never passes."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
    return {item.arg for item in named} - {"self", "cls"}


def documented(docstring: str) -> set[str]:
    """Names that stand in the `Parameters` section of a docstring."""
    section = re.search(r"^Parameters\n-{10}\n(?P<body>.*?)(?=^\w[\w ]*\n-{3,}\n|\Z)", docstring, re.M | re.S)
    heads = (ENTRY.match(line) for line in (section["body"] if section else "").splitlines())
    return {name.strip(" *") for head in heads if head for name in head["names"].split(",")}


def lacking(path: Path) -> Iterator[str]:
    """One line for each public function of a module with a parameter that its docstring does not name."""
    for function in public_functions(ast.parse(path.read_text(encoding="utf-8"))):
        if is_exempt(function):
            continue
        missing = parameters(function) - documented(ast.get_docstring(function) or "")
        if missing:
            where = f"{path.relative_to(PACKAGE.parent)}:{function.lineno}"
            yield f"{where} {function.name}: {', '.join(sorted(missing))}"


def test_each_parameter_of_a_public_function_is_documented() -> None:
    missing = [line for path in sorted(PACKAGE.rglob("*.py")) for line in lacking(path)]
    assert not missing, f"{len(missing)} functions lack parameters in their docstrings:\n" + "\n".join(
        missing
    )
