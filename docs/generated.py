"""Parts of the reference that come from the code, so that nobody writes them by hand.

A page holds a line `<!-- generated: NAME -->`; when the site is built, it is replaced by what `PARTS[NAME]()` returns.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).parent.parent
_MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def fill(page: str) -> str:
    """A page with its generated parts.

    Raises:
        KeyError: no part of that name.
    """
    return _MARK.sub(lambda match: PARTS[match[1]](), page)


def command_line() -> str:
    """Every command of `simenv` with its arguments and options."""
    from simenv.cli.main import app

    group: Any = typer.main.get_command(app)
    return "\n\n".join(_command(name, command) for name, command in sorted(group.commands.items()))


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join(["simenv", name, *(_usage(a) for a in arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"## simenv {name}", plain(inspect.cleandoc(command.help or "")), f"```text\n{usage}\n```"]
    if arguments:
        parts.append(table(("argument", "meaning"), [(f"`{_usage(a)}`", _help(a)) for a in arguments]))
    if options:
        rows = [(_option(o), f"`{_type(o)}`", _default(o), _help(o)) for o in options]
        parts.append(table(("option", "type", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _usage(argument: Any) -> str:
    name = str(argument.name).upper()
    return f"{name}..." if argument.nargs == -1 else name


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    return f"{names} (repeatable)" if getattr(option, "multiple", False) else names


def _type(option: Any) -> str:
    if option.is_flag:
        return "flag"
    annotation = option.type_descriptor.annotation
    (each,) = typing.get_args(annotation) or (annotation,)
    return {"str": "text", "Path": "path"}.get(each.__name__, each.__name__)


def _default(option: Any) -> str:
    if option.required:
        return "required"
    default = option.default() if callable(option.default) else option.default
    return "" if default is None or default is False or getattr(option, "multiple", False) else f"`{default}`"


def _help(parameter: Any) -> str:
    return plain(getattr(parameter, "help", None) or "")


def records() -> str:
    """Every record of `simenv.records`: its docstring and its fields."""
    from simenv import records as module

    return "\n\n".join(
        "\n\n".join([f"## {model.__name__}", _target(f"simenv.{model.__name__}", model), *_model(model)])
        for model in _models_of(module)
        if model.__name__ != "Record"
    )


def _models_of(module: Any) -> Iterator[type[BaseModel]]:
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, BaseModel) and value.__module__ == module.__name__:
            yield value


def _target(name: str, model: type) -> str:
    """What links from the Python API lead to."""
    canonical = f"{model.__module__}.{model.__qualname__}"
    return f"```{{eval-rst}}\n.. py:class:: {name}\n   :canonical: {canonical}\n   :no-contents-entry:\n```"


def _model(model: type[BaseModel]) -> list[str]:
    said = inspect.cleandoc(model.__doc__ or "")
    rows = [
        (f"`{name}`", _annotation(field), _default_of(field), _meaning(field))
        for name, field in model.model_fields.items()
    ]
    return [said, table(("field", "type", "default", "meaning"), rows)]


def _meaning(field: FieldInfo) -> str:
    """The docstring under a field."""
    return " ".join((field.description or "").split())


def _annotation(field: FieldInfo) -> str:
    signs = {"ge": "\\>=", "gt": "\\>", "le": "\\<=", "lt": "\\<"}
    limits = [
        f"{sign} {getattr(m, name):g}" for name, sign in signs.items() for m in field.metadata if hasattr(m, name)
    ]
    return ", ".join([f"`{_type_name(field.annotation)}`".replace("|", r"\|"), *limits])


def _type_name(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "None"
    if origin is typing.Annotated:  # a validator is no type
        return _type_name(arguments[0])
    if origin is typing.Literal:
        return " | ".join(repr(argument) for argument in arguments)
    if origin is None:
        return "..." if annotation is Ellipsis else getattr(annotation, "__name__", str(annotation))
    names = [_type_name(argument) for argument in arguments]
    if origin in (typing.Union, types.UnionType):
        return " | ".join(names)
    return f"{getattr(origin, '__name__', origin)}[{', '.join(names)}]"


def _default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined:
        return ""
    shown = repr(field.default.value if isinstance(field.default, enum.Enum) else field.default)
    return "" if isinstance(field.default, BaseModel) else f"`{shown}`"


def claims() -> str:
    """The members of `simenv.Claim` with the docstrings under them."""
    from simenv.mechanism import Claim

    return table(("`simenv.Claim`", "it holds if"), [(f"`{n}`", text) for n, text in enum_docs(Claim).items()])


def enum_docs(of: type[enum.Enum]) -> dict[str, str]:
    """Member -> the string under its assignment, which Python itself does not keep."""
    (body,) = (n.body for n in ast.parse(inspect.getsource(of)).body if isinstance(n, ast.ClassDef))
    said = {}
    for assignment, text in pairwise(body):
        if isinstance(assignment, ast.Assign) and isinstance(text, ast.Expr):
            (target,) = assignment.targets
            assert isinstance(target, ast.Name)
            assert isinstance(text.value, ast.Constant)
            said[target.id] = " ".join(str(text.value.value).split())
    return said


def api() -> str:
    """Every public name of `simenv`; records are on the page of their own."""
    import simenv

    parts = []
    for name in simenv.__all__:
        value = getattr(simenv, name)
        if inspect.isclass(value) and issubclass(value, BaseModel) and value.__module__ == "simenv.records":
            continue
        directive = "autoclass" if inspect.isclass(value) else "autofunction" if callable(value) else "autodata"
        parts.append(f"## {name}\n\n```{{eval-rst}}\n.. {directive}:: simenv.{name}\n```")
    return "\n\n".join(parts)


def mechanisms() -> str:
    """`mechanisms/README.md` without its title, its links as seen from `docs/`."""
    text = re.sub(r"\]\((\w+)/\)", r"](\1/mechanism.py)", _readme("mechanisms/README.md"))
    return re.sub(r"\]\(([\w/]+\.py)\)", r"](../mechanisms/\1)", text)


def personas() -> str:
    """`personas/README.md` without its title."""
    return _readme("personas/README.md")


def ad_catalogs() -> str:
    """`ad_catalogs/README.md` without its title, its links as seen from `docs/`."""
    return _readme("ad_catalogs/README.md").replace("(../personas/README.md#", "(personas.md#")


def train_at_scale() -> str:
    """`examples/train_at_scale.md` without its title."""
    return _readme("examples/train_at_scale.md")


def _readme(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8").split("\n", 1)[1]


def audit_keys() -> str:
    """What audit.json holds."""
    from simenv.auditing.records import Audit

    return _keys("audit.json", Audit)


def validity_keys() -> str:
    """What validity.json holds."""
    from simenv.validity.contrasts import KINDS
    from simenv.validity.placebos import PLACEBOS
    from simenv.validity.run import Validity

    kinds = table(("contrast", "first over second"), [(f"`{name}`", plain(said)) for name, said in KINDS.items()])
    placebos = table(("placebo", "what is changed"), [(f"`{name}`", plain(said)) for name, said in PLACEBOS.items()])
    return "\n\n".join([_keys("validity.json", Validity), "The kinds of contrasts and the placebos:", kinds, placebos])


def judge_card_keys() -> str:
    """What judge_card.json holds."""
    from simenv.validity.card import JudgeCard

    return _keys("judge_card.json", JudgeCard)


def _keys(file: str, report: type[BaseModel]) -> str:
    parts = []
    for path, model in {file: report, **dict(_nested("", report))}.items():
        rows = [(f"`{name}`", _annotation(field), _meaning(field)) for name, field in model.model_fields.items()]
        parts.append(f"**`{path}`**: {inspect.cleandoc(model.__doc__ or '').splitlines()[0]}")
        parts.append(table(("key", "type", "meaning"), rows))
    return "\n\n".join(parts)


def _nested(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """The records within a record, with where they stand. KEY is any key of a dictionary."""
    from simenv.stats import Estimate

    for name, field in model.model_fields.items():
        dictionary = "dict[" in str(field.annotation)
        for each in _models_in(field.annotation):
            if each is not Estimate:
                inner = f"{path}{name}.KEY" if dictionary else f"{path}{name}"
                yield inner, each
                yield from _nested(f"{inner}.", each)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def export_columns() -> str:
    """The columns of each export format, as dataset cards describe them."""
    from simenv.datasets.columns import COLUMNS, MEANINGS

    rows = [(f"`{name}`", f"`{kind}`", MEANINGS[name]) for name, kind in COLUMNS["clicks"].items()]
    return table(("column", "type", "meaning"), rows)


def advertiser_terms() -> str:
    """The terms of an advertiser's report."""
    from simenv.advertisers.terms import TERMS

    return table(
        ("term", "`metric`", "unit", "meaning"),
        [(term.title, f"`{term.name}`", term.unit, term.meaning) for term in TERMS],
    )


def advertiser_effects() -> str:
    """What a report without the advertiser says."""
    from simenv.advertisers.effects import EFFECTS

    return table(
        ("`metric`", "unit", "with the advertiser minus without it"),
        [(f"`{effect.name}`", effect.unit, effect.meaning) for effect in EFFECTS],
    )


def server_shapes() -> str:
    """The replies that are tested, and what becomes of them."""
    from simenv.testing.shapes import OUTCOMES, SHAPES, VERDICTS

    rows = []
    for shape in SHAPES:
        tokens = "" if shape.tokens else "; its tokens are unknown"
        judged = VERDICTS[shape.verdict] if shape.verdict else ""
        rows.append((shape.name, f"{OUTCOMES[shape.call]}{tokens}{judged}"))
    return table(("the server sends", "what becomes of it"), rows)


def plain(text: str) -> str:
    """Text of a help or docstring that has no mark-up, so that Markdown shows it as it is."""
    return re.sub(r"([\\*_<>|`\[\]#])", r"\\\1", text)


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table; cells may hold mark-up."""
    lines = [header, ("---",) * len(header), *(tuple(" ".join(cell.split()) or " " for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PARTS: dict[str, Callable[[], str]] = {
    "ad_catalogs": ad_catalogs,
    "advertiser_effects": advertiser_effects,
    "advertiser_terms": advertiser_terms,
    "api": api,
    "audit_keys": audit_keys,
    "claims": claims,
    "command_line": command_line,
    "export_columns": export_columns,
    "judge_card_keys": judge_card_keys,
    "mechanisms": mechanisms,
    "personas": personas,
    "records": records,
    "server_shapes": server_shapes,
    "train_at_scale": train_at_scale,
    "validity_keys": validity_keys,
}
