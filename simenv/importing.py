"""Imports the code of plug-ins, and reads what they say of themselves without an import."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from importlib.metadata import EntryPoint, packages_distributions, version
from pathlib import Path
from typing import Any, NamedTuple

from simenv.errors import InputError

OUR_PACKAGE = "simenv-ads"
"""Name of our distribution."""
_OUR_FOLDER = "mechanisms"
_LONGEST_QUOTE = 80
_LONGEST_REASON = 1000


def load_entry_point(entry: EntryPoint) -> Any:
    """Loads a registered plug-in; ours from our own folder even where another `mechanisms` hides it."""
    if not _is_hidden(entry):
        return entry.load()
    alias = "simenv_builtin_mechanisms"  # a user's folder of the same name keeps the name
    if alias not in sys.modules:
        _from_file(alias, _our_folder() / "__init__.py", [str(_our_folder())])
    return getattr(importlib.import_module(alias + entry.module.removeprefix(_OUR_FOLDER)), entry.attr)


def _is_hidden(entry: EntryPoint) -> bool:
    """Whether a user's package has the name of the one that this entry point of ours is in."""
    if entry.module.split(".")[0] != _OUR_FOLDER or entry.dist is None or entry.dist.name != OUR_PACKAGE:
        return False
    loaded = sys.modules.get(_OUR_FOLDER)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(_OUR_FOLDER)
    return spec is None or spec.origin is None or Path(spec.origin).resolve().parent != _our_folder()


def _our_folder() -> Path:
    return Path(__file__).resolve().parent.parent / _OUR_FOLDER


def import_module(module_name: str, what: str) -> Any:
    """Imports a module by name or a .py file by path.

    Args:
        module_name: "package.module" or "path/to/file.py".
        what: The plug-in, for messages: "mechanism 'x'".

    Raises:
        InputError: no such file, or the module raises while it is imported.
    """
    try:
        if module_name.endswith(".py"):
            path = Path(module_name)
            if not path.is_file():
                raise InputError(f"{what}: no such file {module_name}")
            if str(path.resolve().parent) not in sys.path:
                sys.path.append(str(path.resolve().parent))  # it may import what lies beside it
            return _from_file(f"simenv_user_{path.stem}", path, None)
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # a console script does not look in the folder it is run from
        return importlib.import_module(module_name)
    except InputError:
        raise
    except Exception as error:  # a module may raise anything while it is imported
        raise InputError(f"{what} cannot be imported: {reason(error)}") from error


def _from_file(module_name: str, path: Path, search: list[str] | None) -> Any:
    spec = importlib.util.spec_from_file_location(module_name, path, submodule_search_locations=search)
    if spec is None or spec.loader is None:
        raise InputError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(module_name, None)  # a module that was read in part must not be found
        raise
    return module


def summary_of(entry: EntryPoint) -> str:
    try:
        tree = ast.parse(_source(entry).read_text(encoding="utf-8"))
    except Exception as error:
        return f"(cannot be read: {reason(error)})"
    body = tree.body
    docstring = None
    for part in entry.attr.split("."):  # of a class method, the method's, else the class's
        named = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part]
        if not named:
            break
        docstring = ast.get_docstring(named[0]) or docstring
        body = named[0].body
    return _first_sentence(docstring or "")


def _source(entry: EntryPoint) -> Path:
    """The file that defines a plug-in."""
    if _is_hidden(entry):
        base = _our_folder().joinpath(*entry.module.split(".")[1:])
        return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    spec = importlib.util.find_spec(entry.module)  # imports the package around it, not the module
    if spec is None or spec.origin is None:
        raise InputError(f"no module {entry.module}")
    return Path(spec.origin)


class Origin(NamedTuple):
    """Where the code of a plug-in is."""

    module: str
    """Name of its module; of a .py file given by path, the name without its ending."""
    file: Path
    package: str | None = None
    """Name and version of the distribution that installed it, if one did."""


def origin_of_entry(entry: EntryPoint) -> Origin:
    """Where a registered plug-in is. It must be importable."""
    package = None if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
    return Origin(entry.module, _source(entry), package)


def origin_of_module(module_name: str) -> Origin | None:
    """Where a module, or a .py file, is; None if it has no file. It must be importable.

    Args:
        module_name: "package.module" or "path/to/file.py".
    """
    if module_name.endswith(".py"):
        return Origin(Path(module_name).stem, Path(module_name))
    loaded = sys.modules.get(module_name)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(module_name)
    file = getattr(loaded, "__file__", None) or (spec.origin if spec is not None and spec.has_location else None)
    return None if file is None else Origin(module_name, Path(file), _package_of(module_name, Path(file)))


def _package_of(module_name: str, file: Path) -> str | None:
    if not is_installed(file):
        return None
    names = packages_distributions().get(module_name.split(".")[0], [])
    return " and ".join(f"{name} {version(name)}" for name in names) or None


def is_installed(file: Path) -> bool:
    """Whether a file lies where packages are installed."""
    return not {"site-packages", "dist-packages"}.isdisjoint(file.parts)


def _first_sentence(docstring: str) -> str:
    """The first sentence, or as much of it as stands in the first paragraph, in one line."""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    match = re.match(r"(.+?[.!?])(?:\s+[A-Z]|$)", paragraph)
    return match[1] if match else paragraph


def reason(error: BaseException) -> str:
    """An exception of a plug-in's code as one line of up to 1,000 characters, with the place where it was raised."""
    message = " ".join(str(error).split())
    if len(message) > _LONGEST_REASON:
        message = f"{message[:_LONGEST_REASON]}..."
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1:]
    if _close_coroutines(error):
        last = [f for f in frames if not Path(f.filename).is_relative_to(Path(__file__).parent)][-1:] or last
        line = next((f" in {f.line!r}" for f in last if f.line), "")
        message += f": a coroutine{line} is not awaited; write `await` before the call that makes it, in an `async def`"
    # A syntax error names its place itself, and one of the import system has none in the user's code.
    place = "" if isinstance(error, SyntaxError | ImportError) else "".join(f" ({f.filename}:{f.lineno})" for f in last)
    return f"{type(error).__name__}: {message}{place}" if message else f"{type(error).__name__}{place}"


def _close_coroutines(error: BaseException) -> bool:
    """Closes the coroutines that an error is about, so that they do not warn later; whether there are any."""
    if "coroutine" not in str(error):
        return False
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    held = [getattr(error, "obj", None), *(value for frame in frames for value in frame.f_locals.values())]
    coroutines = [value for value in held if inspect.iscoroutine(value)]
    for coroutine in coroutines:
        coroutine.close()
    return bool(coroutines)


def quoted(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 3]}..."
