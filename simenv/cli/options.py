"""Command-line options from option records: each field of a record becomes one option with the field's help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from pydantic.fields import FieldInfo

from simenv.records import Record
from simenv.runs.options import names_of, read_options

R = TypeVar("R", bound=Record)
_REPEATABLE = {"settings": "--set"}
"""Field -> option name, for options that are repeated, once per entry."""
SOUND_ONLY = typer.Option(
    "--sound-only", help="Of a damaged run, read the sound part of the log, and say what is left out."
)
SETTINGS_OF_ONE = "OPTION=VALUE of the mechanism (or NAME.OPTION=VALUE), e.g. n=8. Repeatable."


def takes(model: type[R]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command one option per field of `model`.

    The command has a parameter `options`, which receives the record, and may have `given`, which receives the names of
    the fields that the user set. A parameter of the command with the name of a field replaces the option of that field;
    its value is also passed to the record.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        wanted = inspect.signature(command, eval_str=True).parameters
        own = [p for name, p in wanted.items() if name not in ("options", "given")]
        taken = {p.name for p in own}
        added = [_parameter(name, field) for name, field in model.model_fields.items() if name not in taken]
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

        def run(context: typer.Context, **arguments: Any) -> None:
            fields = {name: arguments[name] for name in model.model_fields if name in arguments}
            values = {name: _value(model.model_fields[name], value) for name, value in fields.items()}
            passed = {p.name: arguments[p.name] for p in own}
            if "given" in wanted:
                passed["given"] = {name for name in fields if _was_given(context, name)}
            command(**passed, options=read_options(model, values))

        parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *added]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    text = " ".join((field.description or "").split())
    kind: Any = field.annotation
    default = field.default
    if name in _REPEATABLE:
        kind, default, option = list[str] | None, None, typer.Option(_REPEATABLE[name], help=text)
    else:
        if kind == tuple[str, ...] or field.default_factory is dict:
            kind, default = str | None, None
        option = typer.Option(help=text)
    annotation = Annotated[kind, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _value(field: FieldInfo, value: Any) -> Any:
    if field.default_factory is dict:
        return value or {}
    if field.annotation != tuple[str, ...]:
        return value
    return names_of(value) if value is None or isinstance(value, str) else tuple(value)


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
