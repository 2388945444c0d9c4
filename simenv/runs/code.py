"""Which code a run is of: hashes of simenv and of every plug-in, so that a resumed run does not mix two versions.

The code of a plug-in is its module, every module of its own package or folder that it imports, directly or not, and the
prompts and weights in the folders of these modules. What other packages do is not part of it; their versions are in the
manifest.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from simenv import registry
from simenv.ctr.models import CTR_MODEL
from simenv.importing import Origin, is_installed, origin_of_module
from simenv.runs.build import labelled, parts_of
from simenv.runs.options import RunOptions
from simenv.runs.settings import Part

_DATA_FOLDERS = ("prompts", "adapter")
"""Folders beside a module whose files belong to its code."""
_NOT_RUN = ("advertisers", "cli", "report", "testing")
"""Packages of simenv that change no result."""


def code_of(options: RunOptions, objects: Mapping[str, Any]) -> dict[str, dict[str, str | None]]:
    """Returns the code of a run: "simenv", and "KIND NAME" for every plug-in outside of simenv.

    Each has its `module`, `package` (name and version of the distribution, if it is installed) and `sha256`.

    Args:
        options: The run's options. Their plug-ins must be importable.
        objects: Mechanisms as objects, by label.
    """
    found: dict[str, Origin] = {}
    for part in _parts(options):
        if (origin := registry.origin(part.kind, part.name)) is not None:
            found[f"{part.kind.name} {part.label}"] = origin
    code = {name: _entry(it) for name, it in found.items() if not _is_ours(it.module)}
    for label, thing in objects.items():
        if not _is_ours(type(thing).__module__):
            code[f"mechanism {label}"] = _entry_of_object(thing)
    return {"simenv": {"module": "simenv", "package": None, "sha256": _simenv_sha256()}, **code}


def differing_code(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Returns what differs, one text each: "mechanism gsp (mechanisms.gsp) was 0123456789ab, now 123456789abc"."""
    texts = []
    for name in dict.fromkeys((*before, *now)):
        one, other = before.get(name) or {}, now.get(name) or {}
        changed = [key for key in ("package", "sha256") if one.get(key) != other.get(key)]
        if changed:
            module = other.get("module") or one.get("module")
            shown = name if module in (None, name) else f"{name} ({module})"
            was, is_ = (" ".join(_short(it.get(key)) for key in changed) for it in (one, other))
            texts.append(f"{shown} was {was}, now {is_}")
    return texts


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text


def _parts(options: RunOptions) -> Iterator[Part]:
    yield from parts_of(options, labelled(options.mechanisms))
    for text in options.settings:  # a mechanism may have a CTR model of its own
        setting = registry.parse_setting(text)
        if setting.option == CTR_MODEL.name and isinstance(setting.value, str):
            yield Part(CTR_MODEL, setting.value, setting.value)


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == "simenv"


def _entry(origin: Origin) -> dict[str, str | None]:
    return {"module": origin.module, "package": origin.package, "sha256": source_sha256(origin.file, origin.module)}


def _entry_of_object(thing: Any) -> dict[str, str | None]:
    kind = type(thing)
    origin = origin_of_module(kind.__module__) if kind.__module__ != "__main__" else None
    if origin is not None:
        return _entry(origin)
    try:  # of a script or a notebook, the class alone
        sha256 = hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
    except (OSError, TypeError):
        sha256 = None
    return {"module": kind.__module__, "package": None, "sha256": sha256}


@cache
def _simenv_sha256() -> str:
    root = Path(str(files("simenv")))
    inner = (file.relative_to(root) for file in root.rglob("*"))
    return _sha256(root, [root / file for file in inner if file.parts[0] not in _NOT_RUN])


def source_sha256(file: Path, module: str) -> str:
    """The hash of a module, of what it imports from its own package or folder, and of their prompts and weights.

    Args:
        file: Its file.
        module: Its name, "package.module", or the name of a file that lies in no package.
    """
    file = file.resolve()
    names = module.split(".")
    is_package = file.name == "__init__.py"
    root = file.parents[len(names) if is_package else len(names) - 1]
    tree = {file: names if is_package else names[:-1]}
    for depth in range(1, len(names)):
        _find(root, names[:depth], tree)
    waiting = list(tree)
    while waiting:
        source = waiting.pop()
        for imported in _imports(source, tree[source]):
            if _is_ours(imported[0]) or (is_installed(root) and imported[0] != names[0]):
                continue
            before = len(tree)
            for depth in range(1, len(imported) + 1):
                _find(root, imported[:depth], tree)
            waiting += list(tree)[before:]
    data = [
        inner for folder in {f.parent for f in tree} for name in _DATA_FOLDERS for inner in (folder / name).glob("*")
    ]
    return _sha256(root, [*tree, *data])


def _find(root: Path, names: list[str], tree: dict[Path, list[str]]) -> None:
    """Adds the module of this name to `tree` (file -> the package that it is in), if it lies under `root`."""
    place = root.joinpath(*names)
    if (package := place / "__init__.py").is_file():
        tree.setdefault(package, names)
    elif (file := place.with_suffix(".py")).is_file():
        tree.setdefault(file, names[:-1])


def _imports(file: Path, package: list[str]) -> Iterator[list[str]]:
    """Yields the names of all modules that a module imports, wherever the import stands in it."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (OSError, SyntaxError, ValueError, RecursionError):  # such as a compiled module
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            yield from ([*base, alias.name] for alias in node.names)


def _sha256(root: Path, paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(set(paths)):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()
