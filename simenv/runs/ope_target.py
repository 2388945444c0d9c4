"""The target of an off-policy evaluation: a mechanism with the CTR model that the logged run had."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simenv import registry
from simenv.ctr.models import CTR_MODEL, CTRModel
from simenv.encoder import default_encoder
from simenv.errors import InputError
from simenv.judges.factory import make_judge
from simenv.llm import LLM
from simenv.mechanism import MECHANISM, ChoosesAd, find_mechanism
from simenv.records import Transition
from simenv.registry import Lazy
from simenv.runs.build import click_world_of, labelled, objective_of, part_options_of
from simenv.runs.log import read_transitions
from simenv.runs.manifest import MANIFEST, read_manifest
from simenv.runs.named_files import differing_files, file_hashes
from simenv.runs.ope import require_choices
from simenv.runs.options import BenchOptions, options_of_manifest
from simenv.users.personas import load_personas


def target_of_run(
    run: str | Path, name: str, options: Mapping[str, Any] | None = None, *, llm: LLM, ctr_model: str | None = None
) -> ChoosesAd:
    """Builds a mechanism with the CTR model and the objective of a run, so that the run's own mechanism as a target
    has the probabilities that it logged.

    Args:
        run: The run's folder. Of a log without a manifest, the defaults are taken.
        name: The mechanism, as in `make_mechanism`.
        options: The mechanism's own options. `ctr_model` may be the name of a CTR model.
        llm: The Ad-LLM; the target writes no text.
        ctr_model: Name of another CTR model than the run's.

    Raises:
        InputError: the mechanism does not give the probability of each ad, or the file of the run's learned CTR model
            is not what it was.
        SimenvError: the folder holds no run, or a part cannot be built.
    """
    manifest = read_manifest(run) if (Path(run) / MANIFEST).exists() else None  # a log alone: defaults
    of_run = BenchOptions() if manifest is None else options_of_manifest(manifest["options"], str(run))
    own = dict(options or {})
    wanted = own.pop("ctr_model", None) or ctr_model
    if wanted is None:
        _check_files(run, of_run, manifest or {})
        wanted = _logged_ctr_model(run, of_run)
    spec = find_mechanism(name, own)
    model = _build(wanted, of_run) if isinstance(wanted, str) else wanted
    context = {"llm": llm, "encoder": Lazy(default_encoder), "objective": objective_of(of_run), "ctr_model": model}
    return require_choices(spec.build(context), name)


def _logged_ctr_model(run: str | Path, options: BenchOptions) -> str:
    """The CTR model of the mechanism that logged its propensities: its own, else the run's."""
    label = next((t.mechanism for t in read_transitions(run, left_out=lambda _: None) if _is_logged(t)), None)
    if label not in labelled(options.mechanisms):
        return options.ctr_model
    own = part_options_of(options).of(MECHANISM, label).get("ctr_model")
    return own if isinstance(own, str) else options.ctr_model


def _is_logged(transition: Transition) -> bool:
    return "propensity" in transition.outcome.details


def _check_files(run: str | Path, options: BenchOptions, manifest: Mapping[str, Any]) -> None:
    before = manifest.get("files_sha256")
    if before and (differing := differing_files(file_hashes(options), before)):
        raise InputError(f"{run} was run with other files: {'; '.join(differing)}", hint="name the ctr_model")


def _build(name: str, options: BenchOptions) -> CTRModel:
    context = {
        "encoder": Lazy(default_encoder),
        "judge": Lazy(lambda: make_judge(f"click:{click_world_of(options)}")),  # the oracle takes no other
        "personas": Lazy(lambda: load_personas(options.personas)),
    }
    settings = part_options_of(options).of(CTR_MODEL, name) if name == options.ctr_model else {}
    return registry.make(CTR_MODEL, name, context, **settings)
