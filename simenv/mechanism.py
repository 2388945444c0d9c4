"""What a mechanism is, and how one is found by name.

A mechanism turns an Auction into an Outcome. It is written for ONE auction, in straight lines; many auctions run at
once and the language model's backend batches the calls.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from simenv.ctr.models import make_ctr_model
from simenv.errors import InputError, MechanismFailed, OutcomeError, SimenvError, UnknownName
from simenv.llm.base import metered
from simenv.objective import Objective
from simenv.records import Auction, Outcome
from simenv.seeding import keyed_rng

GROUP = "simenv.mechanisms"
"""Entry-point group under which mechanisms register, ours and third parties' alike."""
_ROUNDING = 1e-9


class Claim(StrEnum):
    """What a mechanism may claim of itself; `check_mechanism` holds it to these and to no others.

    All are about bids per click and about clicks in the mechanism's OWN predictions (`ctr_model`). What happens in the
    world is measured by experiments, not claimed here. Claims hold ex post for the mechanism's own randomness
    (generator and language model keyed alike), but for those in expectation: they are about the exact distribution
    that `lottery_of` gives, over the mechanism's draw with the texts it chooses among held fixed.
    """

    # The documentation's table is made of these docstrings.
    INDIVIDUALLY_RATIONAL = "individually_rational"
    """No shown ad's price per click exceeds its bid, and no transfer is charged beyond predicted value."""
    MONOTONE = "monotone"
    """Raising one bid, all else equal, never lowers that ad's own predicted click probability."""
    TRUTHFUL_UM = "truthful_um"
    """No bid of a grid gives an advertiser more predicted utility (value x click - payment) than bidding its value."""
    RATIONAL_IN_EXPECTATION = "rational_in_expectation"
    """An advertiser that bids its value expects to pay no more than its predicted value."""
    MONOTONE_IN_EXPECTATION = "monotone_in_expectation"
    """As MONOTONE, for the expected click probability: the ITCTR of LLM-Auction, eq. 1."""
    TRUTHFUL_UM_IN_EXPECTATION = "truthful_um_in_expectation"
    """As TRUTHFUL_UM, for expected utility."""
    TRUTHFUL_VM = "truthful_vm"
    """A value maximiser of value v and target ROI t (value per cost) that bids v / t keeps its target in expectation,
    and no bid of a grid that keeps it too gets more expected clicks (LLM-Auction, section 4)."""
    BID_FREE_CANDIDATES = "bid_free_candidates"
    """Bids choose among texts that are written without them: what reaches the language model does not change with
    the bids."""


@runtime_checkable
class Mechanism(Protocol):
    """The interface. `run` may be a plain `def` too; `claims` may be left out (no claims).

    A mechanism that draws among its texts may have `async def lottery(auction) -> Lottery`: the exact distribution of
    what `run` returns over its own draw, those texts held fixed. A price in it is the expected price given the outcome.

    A mechanism that learns has `observe(transition)`: it is given every transition of its own, in order. What it
    learns may change there alone, not in `run`, so that a resumed run learns the same again from the log.
    """

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome | Awaitable[Outcome]:
        """Answers one auction.

        Args:
            auction: All that may be known.
            rng: The mechanism's own randomness, keyed by the auction: the same for the same auction at other bids.
        """
        ...


def mechanism_name(mechanism: Mechanism) -> str:
    """How tables and logs call it: its `name`, else its class's name."""
    return str(getattr(mechanism, "name", type(mechanism).__name__))


async def run_mechanism(mechanism: Mechanism, auction: Auction) -> Outcome:
    """Runs `mechanism` on `auction` with keyed randomness; the completions it used are added to the outcome's usage.

    Raises:
        OutcomeError: it returned something else than an Outcome.
        MechanismFailed: its own code raised.
    """
    with metered() as meter:
        try:
            result = mechanism.run(auction, keyed_rng("mechanism", auction.id))
            outcome = await result if inspect.isawaitable(result) else result
        except SimenvError:
            raise
        except Exception as error:
            raise MechanismFailed(
                f"{mechanism_name(mechanism)} raised {_reason(error)} on auction {auction.id}"
            ) from error
    if not isinstance(outcome, Outcome):
        raise OutcomeError(f"{mechanism_name(mechanism)}.run returned {type(outcome).__name__}, expected an Outcome")
    return outcome.model_copy(update={"usage": outcome.usage + meter.usage})


Lottery = list[tuple[float, Outcome]]
"""Outcomes with their probabilities."""


async def lottery_of(mechanism: Mechanism, auction: Auction) -> Lottery:
    """What `mechanism` does on `auction`, over its own draw: its `lottery`, or its run with probability 1.

    The latter is exact for a mechanism that does not draw, or draws only the texts it then chooses among: these are
    held fixed here by their keys. Of one that draws and has no `lottery` it is a single draw.

    Raises:
        OutcomeError: it returned something else than outcomes with probabilities that sum to 1.
        MechanismFailed: its own code raised.
        InputError: the mechanism does not know its distribution under the options it was built with.
    """
    method = getattr(mechanism, "lottery", None)
    if method is None:
        return [(1.0, await run_mechanism(mechanism, auction))]
    name = mechanism_name(mechanism)
    try:
        made = method(auction)
        lottery = [(float(prob), outcome) for prob, outcome in (await made if inspect.isawaitable(made) else made)]
    except SimenvError:
        raise
    except Exception as error:
        raise MechanismFailed(f"{name}.lottery raised {_reason(error)} on auction {auction.id}") from error
    for _, outcome in lottery:
        if not isinstance(outcome, Outcome):
            raise OutcomeError(f"{name}.lottery returned {type(outcome).__name__}, expected Outcomes")
    probs = [prob for prob, _ in lottery]
    if not all(0 <= prob <= 1 + _ROUNDING for prob in probs) or abs(math.fsum(probs) - 1) > _ROUNDING:
        raise OutcomeError(f"the probabilities of {name}.lottery must sum to 1, got {probs}")
    return lottery


class MechanismSpec(NamedTuple):
    """A mechanism that was found and whose options are right, but that is not built yet."""

    name: str
    factory: Callable[..., Any]
    options: Mapping[str, Any]

    def build(self, context: Mapping[str, Any]) -> Mechanism:
        """Builds it; `context` as in `make_mechanism`.

        Raises:
            InputError: the constructor raised, needs more than it is given, or built something without `run`.
        """
        parameters = inspect.signature(self.factory).parameters
        offered = {"ctr_model": make_ctr_model(), "objective": Objective()} | dict(context)
        given = {key: value for key, value in offered.items() if key in parameters and key not in self.options}
        missing = [
            p.name
            for p in parameters.values()
            if p.default is p.empty
            and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            and p.name not in {*given, *self.options}
        ]
        if missing:
            raise InputError(f"mechanism {self.name!r} needs {', '.join(missing)}: give it as an option")
        try:
            mechanism = self.factory(**given, **self.options)
        except SimenvError:
            raise
        except Exception as error:
            raise InputError(f"mechanism {self.name!r} cannot be built: {_reason(error)}") from error
        if not callable(getattr(mechanism, "run", None)):
            raise InputError(f"mechanism {self.name!r} has no method run(auction, rng)")
        if not hasattr(mechanism, "name"):
            with contextlib.suppress(AttributeError):  # slots: then it goes by its class's name
                mechanism.name = self.name.rpartition(":")[2]
        return mechanism  # type: ignore[no-any-return]


def find_mechanism(name: str, options: Mapping[str, Any]) -> MechanismSpec:
    """All of `make_mechanism` that needs no language model, so that a wrong name fails before one is loaded.

    Raises:
        UnknownName: no such mechanism; the message lists the nearest.
        InputError: the module or class cannot be loaded, or an option is not the constructor's.
    """
    factory = _load(name)
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        raise InputError(f"mechanism {name!r} is not a class or function that builds one") from None
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    foreign = [] if takes_any else sorted(set(options) - set(parameters))
    if foreign:
        allowed = ", ".join(parameters) or "none"
        raise InputError(f"mechanism {name!r} has no option {', '.join(foreign)}; its options are {allowed}")
    return MechanismSpec(name, factory, options)


def make_mechanism(name: str, *, context: Mapping[str, Any] | None = None, **options: Any) -> Mechanism:
    """Builds a mechanism by name.

    Args:
        name: A registered name ("gsp"), "package.module:Class", or "path/to/file.py:Class".
        context: What the run has to offer: llm, ctr_model (cosine by default), objective. Each is passed if the
            constructor has a parameter of that name.
        options: Passed as they are.

    Raises:
        UnknownName: no such mechanism; the message lists the nearest.
        InputError: the module or class cannot be loaded, an option is not the constructor's, or the constructor
            raised.
    """
    return find_mechanism(name, options).build(context or {})


def mechanism_names() -> list[str]:
    """All registered names."""
    return sorted(entry_points(group=GROUP).names)


def _load(name: str) -> Any:
    if ":" in name:
        module_name, _, attribute = name.rpartition(":")
        return _attribute(name, _import(name, module_name), attribute)
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise UnknownName("mechanism", name, mechanism_names(), hint="or give package.module:Class or file.py:Class")
    try:
        return _load_entry_point(next(iter(found)))
    except Exception as error:
        raise InputError(f"mechanism {name!r} cannot be imported: {_reason(error)}") from error


def _load_entry_point(entry: EntryPoint) -> Any:
    """Loads a registered mechanism; ours from our own folder even where another `mechanisms` hides it."""
    if entry.module.split(".")[0] != "mechanisms" or entry.dist is None or entry.dist.name != "simenv-ads":
        return entry.load()
    ours = Path(__file__).resolve().parent.parent / "mechanisms"
    spec = sys.modules["mechanisms"].__spec__ if "mechanisms" in sys.modules else importlib.util.find_spec("mechanisms")
    if spec is not None and spec.origin is not None and Path(spec.origin).resolve().parent == ours:
        return entry.load()
    alias = "simenv_builtin_mechanisms"  # a user's folder of the same name keeps the name
    if alias not in sys.modules:
        _from_file(alias, ours / "__init__.py", [str(ours)])
    return getattr(importlib.import_module(alias + entry.module.removeprefix("mechanisms")), entry.attr)


def _import(name: str, module_name: str) -> Any:
    try:
        if module_name.endswith(".py"):
            path = Path(module_name)
            if not path.is_file():
                raise InputError(f"mechanism {name!r}: no such file {module_name}")
            if str(path.resolve().parent) not in sys.path:
                sys.path.append(str(path.resolve().parent))  # it may import what lies beside it
            return _from_file(f"simenv_user_{path.stem}", path, None)
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # a console script does not look in the folder it is run from
        return importlib.import_module(module_name)
    except InputError:
        raise
    except Exception as error:  # a module may raise anything while it is imported
        raise InputError(f"mechanism {name!r} cannot be imported: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """An exception of somebody's code as one line, with the place where it was raised."""
    said = " ".join(str(error).split())
    last = traceback.extract_tb(error.__traceback__)[-1:]
    # A syntax error names its place itself, and one of the import system has none in the user's code.
    place = "" if isinstance(error, SyntaxError | ImportError) else "".join(f" ({f.filename}:{f.lineno})" for f in last)
    return f"{type(error).__name__}: {said}{place}" if said else f"{type(error).__name__}{place}"


def _from_file(module_name: str, path: Path, search: list[str] | None) -> Any:
    spec = importlib.util.spec_from_file_location(module_name, path, submodule_search_locations=search)
    if spec is None or spec.loader is None:
        raise InputError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(module_name, None)  # half a module is none
        raise
    return module


def _attribute(name: str, module: Any, attribute: str) -> Any:
    if not hasattr(module, attribute):
        classes = [n for n, value in vars(module).items() if inspect.isclass(value) and hasattr(value, "run")]
        raise UnknownName(f"class in mechanism {name!r}", attribute, classes or ["none with a run method"])
    return getattr(module, attribute)
