"""Finds plug-ins by name: mechanisms, judges, language models and every other kind.

A plug-in has one of three names:

    NAME                   registered under the entry-point group of its kind; NAME:TEXT sets its first option to TEXT
    package.module:Class   a class, or a function that builds one
    path/to/file.py:Class  the same in a file

Entry points are read without an import, so listing plug-ins loads none of them. What a plug-in needs of the run (its
language model, the encoder) is passed by parameter name: see `Spec.build`.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from simenv.errors import InputError, SimenvError, UnknownName
from simenv.importing import (
    Origin,
    import_module,
    load_entry_point,
    origin_of_entry,
    origin_of_module,
    quoted,
    reason,
    summary_of,
)

T = TypeVar("T")
_SUPPLIED = frozenset({"llm", "user_llm", "ctr_model", "objective", "encoder", "judge", "personas"})
"""Parameters that a run passes; `NAME:TEXT` does not set them."""
_IMPORTABLE = re.compile(r"(?:.+\.py|[A-Za-z_][\w.]*):[A-Za-z_]\w*")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of plug-in."""

    name: str
    """How messages and settings call it, for instance "mechanism"."""
    group: str
    """Entry-point group under which its plug-ins register."""
    needs: tuple[str, ...]
    """Attributes that an instance must have."""
    describes: str = ""
    """One line for lists."""


class Lazy(Generic[T]):
    """A part of the run that is built when the first plug-in asks for it."""

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._built: list[T] = []

    def __call__(self) -> T:
        if not self._built:
            self._built.append(self._build())
        return self._built[0]


@dataclass(frozen=True)
class Spec(Generic[T]):
    """A plug-in that was found and whose options were checked, but that is not built yet."""

    kind: Kind[T]
    name: str
    factory: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    def with_options(self, options: Mapping[str, Any]) -> Spec[T]:
        """The same plug-in with other options."""
        return replace(self, options=dict(options))

    def build(self, context: Mapping[str, Any] | None = None) -> T:
        """Builds it.

        Args:
            context: Parts of the run by name. Each is passed if the constructor has a parameter of that name that no
                option sets. A `Lazy` part is built only then.

        Raises:
            InputError: the constructor raised, needs more than it is given, or built something of another kind.
        """
        if not callable(self.factory):
            return self._checked(self.factory)
        parameters = inspect.signature(self.factory).parameters
        given = {
            key: value() if isinstance(value, Lazy) else value
            for key, value in (context or {}).items()
            if key in parameters and key not in self.options
        }
        missing = [
            p.name
            for p in parameters.values()
            if p.default is p.empty
            and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            and p.name not in {*given, *self.options}
        ]
        if missing:
            raise InputError(f"{self.kind.name} {self.name!r} needs {', '.join(missing)}: give it as an option")
        try:
            built = self.factory(**given, **self.options)
        except SimenvError:
            raise
        except Exception as error:
            raise InputError(f"{self.kind.name} {self.name!r} cannot be built: {reason(error)}") from error
        return self._checked(built)

    def _checked(self, built: Any) -> T:
        for attribute in self.kind.needs:
            if not hasattr(built, attribute):
                raise InputError(f"{self.kind.name} {self.name!r} has no attribute {attribute}")
        if not hasattr(built, "name"):
            with contextlib.suppress(AttributeError, TypeError):  # with slots it goes by its class's name
                built.name = self.name.rpartition(":")[2]
        return built  # type: ignore[no-any-return]


def find(kind: Kind[T], name: str, options: Mapping[str, Any] | None = None) -> Spec[T]:
    """Finds a plug-in and checks its options, before anything slow is loaded.

    Raises:
        UnknownName: no plug-in of that name; the message lists the nearest.
        InputError: it cannot be imported, lacks an option, or an option has another type than its parameter.
    """
    factory, text = _load(kind, name)
    given = dict(options or {})
    if not callable(factory):
        if given or text is not None:
            raise InputError(f"{kind.name} {name!r} has no options, got {', '.join(given) or text}")
        spec = Spec(kind, name, factory)
        spec.build()  # a wrong object is refused now
        return spec
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        raise InputError(f"{kind.name} {name!r} is not a class or function that builds one") from None
    if text is not None:
        own = (p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in _SUPPLIED)
        first = next(own, None)
        if first is None:
            raise InputError(f"{kind.name} {name!r}: nothing can follow the colon")
        given = {first: text, **given}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    foreign = [] if takes_any else sorted(set(given) - set(parameters))
    if foreign:
        allowed = ", ".join(parameters) or "none"
        raise InputError(f"{kind.name} {name!r} has no option {', '.join(foreign)}; its options are {allowed}")
    hints = _hints(factory)
    return Spec(kind, name, factory, {key: _typed(kind, name, key, value, hints) for key, value in given.items()})


def make(kind: Kind[T], name: str, context: Mapping[str, Any] | None = None, **options: Any) -> T:
    """`find` and `build` in one step."""
    return find(kind, name, options).build(context)


def names(kind: Kind[Any]) -> list[str]:
    """All registered names of a kind."""
    return sorted(_registered(kind.group).names)


def is_name_of(kind: Kind[Any], name: str) -> bool:
    """Whether `name` has the form of a plug-in of this kind: registered, or importable."""
    return name.partition(":")[0] in names(kind) or _IMPORTABLE.fullmatch(name) is not None


def origin(kind: Kind[Any], name: str) -> Origin | None:
    """Where the code of a plug-in is that can be found; None for a name of another form, or without a file."""
    head = name.partition(":")[0]
    for entry in _registered(kind.group).select(name=head):
        return origin_of_entry(entry)
    return origin_of_module(name.rpartition(":")[0]) if _IMPORTABLE.fullmatch(name) is not None else None


def summaries(kind: Kind[Any]) -> list[tuple[str, str]]:
    """Every registered name with the first line of its documentation. No plug-in is imported."""
    return [(entry.name, summary_of(entry)) for entry in sorted(_registered(kind.group), key=lambda e: e.name)]


class Setting(NamedTuple):
    """One option of one plug-in, as the user wrote it: `[KIND/]NAME.OPTION=VALUE`."""

    target: str
    """`NAME` or `KIND/NAME`."""
    option: str
    value: Any


def parse_setting(text: str) -> Setting:
    """Reads `NAME.OPTION=VALUE`; the value is JSON if it can be read as such, else the text itself.

    Raises:
        InputError: another form, or JSON nested too deep.
    """
    target, equals, value = text.partition("=")
    name, dot, option = target.rpartition(".")
    if not equals or not dot or not name or not option:
        raise InputError(f"cannot read setting {quoted(text)}: expected NAME.OPTION=VALUE")
    return Setting(name, option, parse_value(value))


def parse_value(text: str) -> Any:
    """A JSON value (8, 0.5, true, [1, 2]) if `text` is one, else the text itself.

    Raises:
        InputError: JSON nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"cannot read value {quoted(text)}: it is nested too deep") from None
    except ValueError:
        return text


@cache
def _registered(group: str) -> EntryPoints:
    """Read once per process: it takes 20 ms."""
    return entry_points(group=group)


def _load(kind: Kind[Any], name: str) -> tuple[Any, str | None]:
    """The factory, and the text after the colon of a registered name."""
    head, colon, text = name.partition(":")
    registered = _registered(kind.group).select(name=head)
    if registered:
        try:
            return load_entry_point(next(iter(registered))), text if colon else None
        except Exception as error:
            raise InputError(f"{kind.name} {name!r} cannot be imported: {reason(error)}") from error
    if not colon:
        hint = f"write {name}:Class" if name.endswith(".py") else "or give package.module:Class or file.py:Class"
        raise UnknownName(kind.name, name, names(kind), hint=hint)
    module_name, _, attribute = name.rpartition(":")
    module = import_module(module_name, f"{kind.name} {name!r}")
    if not hasattr(module, attribute):
        classes = [n for n, value in vars(module).items() if _could_be(kind, value)]
        needs = " and ".join(kind.needs)
        raise UnknownName(f"class in {kind.name} {name!r}", attribute, classes or [f"none with {needs}"])
    return getattr(module, attribute), None


def _could_be(kind: Kind[Any], value: Any) -> bool:
    return inspect.isclass(value) and any(hasattr(value, attribute) for attribute in kind.needs)


def _hints(factory: Any) -> dict[str, Any]:
    """The types of a factory's parameters, as far as they can be read."""
    try:
        return typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except Exception:  # a name that is imported for type checkers alone, or annotations that are no types
        return {}


def _typed(kind: Kind[Any], name: str, option: str, value: Any, hints: Mapping[str, Any]) -> Any:
    """An option's value in the type of its parameter. Types that pydantic does not know are not checked."""
    if option not in hints:
        return value
    try:
        typed = TypeAdapter(hints[option]).validate_python(value)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return value
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        message = message[:1].lower() + message[1:]
        raise InputError(f"{kind.name} {name!r}: option {option}: {message}, got {quoted(value)}") from None
    if isinstance(value, bool) and not isinstance(typed, bool):
        raise InputError(f"{kind.name} {name!r}: option {option}: input should be a number, got {value}")
    return typed
