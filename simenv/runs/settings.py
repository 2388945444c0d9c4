"""Settings: which option of which plug-in of a run gets which value."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from simenv import registry
from simenv.errors import InputError, SimenvError, UnknownName
from simenv.mechanism import MECHANISM
from simenv.registry import Kind


class Part(NamedTuple):
    """One plug-in of a run."""

    kind: Kind[Any]
    label: str
    """How settings call it: a mechanism's label, else its name."""
    name: str

    @property
    def calls(self) -> set[str]:
        """What a setting may write for it: its label, or the registered name before a colon."""
        return {self.label, self.label.partition(":")[0]}


class PartOptions:
    """Options of the plug-ins of a run.

    Args:
        settings: Each `NAME.OPTION=VALUE` or `KIND/NAME.OPTION=VALUE`.
        parts: The plug-ins of the run.

    Raises:
        UnknownName: a setting for a plug-in that is not part of the run.
        InputError: a setting of another form, or one that fits several plug-ins.
    """

    def __init__(self, settings: Iterable[str], parts: Sequence[Part]) -> None:
        self._of: dict[tuple[str, str], dict[str, Any]] = {}
        for text in settings:
            setting = registry.parse_setting(text)
            part = _choose(setting, parts)
            self._of.setdefault((part.kind.name, part.label), {})[setting.option] = setting.value

    def of(self, kind: Kind[Any], label: str) -> dict[str, Any]:
        """The options of one plug-in."""
        return dict(self._of.get((kind.name, label), {}))


def _choose(setting: registry.Setting, parts: Sequence[Part]) -> Part:
    matching = list(dict.fromkeys(part for part in parts if setting.target in part.calls))
    if not matching:
        kind, slash, name = setting.target.partition("/")
        matching = [part for part in parts if slash and part.kind.name == kind and name in part.calls]
    if not matching:
        raise UnknownName("plug-in in a setting", setting.target, {part.label for part in parts})
    if len(matching) > 1:
        matching = [part for part in matching if _accepts(part, setting.option)] or matching
    if len(matching) > 1:
        kinds = [part.kind.name for part in matching]
        raise InputError(
            f"setting {setting.target}.{setting.option} fits {' and '.join(kinds)}",
            hint=f"write {kinds[0]}/{setting.target}.{setting.option}",
        )
    return matching[0]


def _accepts(part: Part, option: str) -> bool:
    try:
        return option in inspect.signature(registry.find(part.kind, part.name).factory).parameters
    except (SimenvError, TypeError, ValueError):
        return False


def options_of_mechanisms(mechanisms: Mapping[str, str], settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The options of each mechanism of a command without other plug-ins.

    Args:
        mechanisms: Label -> name. If there is one, "NAME." may be left out of its settings.
        settings: Each `NAME.OPTION=VALUE`, or `OPTION=VALUE`.

    Returns:
        Label -> options.

    Raises:
        UnknownName: a setting for another plug-in.
        InputError: a setting of another form.
    """
    only = next(iter(mechanisms)) if len(mechanisms) == 1 else None
    whole = [f"{only}.{text}" if only and "." not in text.partition("=")[0] else text for text in settings]
    parts = PartOptions(whole, [Part(MECHANISM, label, name) for label, name in mechanisms.items()])
    return {label: parts.of(MECHANISM, label) for label in mechanisms}
