"""How runs differ, from their manifests: one line for each property that is not the same in all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simenv.errors import SimenvError
from simenv.registry import parse_setting
from simenv.runs.options import OLDEST, BenchOptions

_PACKS = ("personas", "catalog", "queries")
_WORLD = ("query_source", "judge", "judge_sha256", "encoder", "quality", "quality_sha256", "reference")
_OPTIONS_OF_WORLD = (
    "candidates",
    "max_ads",
    "reserve",
    "horizon",
    "penalty",
    "values",
    "view_bids",
    "clicks_per_view",
    "bidder",
    "budget",
    "budget_scope",
    "pacing",
    "conversions",
    "judge_llm_options",
)
_OPTIONS_OF_MECHANISMS = (
    "n",
    "seed",
    "chunk",
    "ctr_model",
    "llm_options",
    "strict",
    "api_base",
    "judge_api_base",
    "judge_ensemble",
    "judge_samples",
)
"""Other options say where data lies or how a model is reached, or they come to a fact of the world: the judge."""
_HASH_OF = {"judge_sha256": "judge", "quality_sha256": "quality"}
"""Hash -> name that it belongs to. A different hash is reported only if the names are equal."""
Manifests = Mapping[str, Mapping[str, Any]]
"""Run -> its manifest."""


def of_the_world(manifests: Manifests) -> list[str]:
    """Returns the properties of the worlds that differ: runs that differ in one are not comparable."""
    facts = {run: _world_facts(manifest) for run, manifest in manifests.items()}
    every = {name: "None" for run_facts in facts.values() for name in run_facts}
    return _differing({run: every | run_facts for run, run_facts in facts.items()})


def of_the_mechanisms(manifests: Manifests) -> list[str]:
    """Returns the other properties that differ: options, settings, code, files, versions, resumes with other code."""
    facts = {run: _other_facts(manifest) for run, manifest in manifests.items()}
    settings = dict.fromkeys(name for run_facts in facts.values() for name in run_facts if name.startswith("setting "))
    for run_facts in facts.values():
        run_facts |= {name: "not set" for name in settings if name not in run_facts}
    return [*_differing(facts), *_mixed(manifests)]


def _world_facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Returns all properties of the world of a run, as text."""
    world = manifest.get("world", {})
    hashes, versions = _mapping(manifest.get("data_sha256")), _mapping(world.get("packs"))
    facts = {pack: versions.get(pack) or _short(hashes.get(pack)) for pack in _PACKS}
    facts |= {name: str(world.get(name)) for name in _WORLD}
    facts["turns"] = str(world.get("turns", "apart"))
    facts |= {f"objective.{name}": str(number) for name, number in _mapping(world.get("objective")).items()}
    facts |= {name: str(_option(manifest, name)) for name in _OPTIONS_OF_WORLD}
    facts |= {name: _short(facts[name]) for name in _HASH_OF}
    if facts["query_source"].startswith("file:"):
        facts["query_source"] = "a file"  # the hash in `queries` identifies it
    return facts


def _other_facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Returns properties that may differ between comparable runs. What a manifest does not know is not among them."""
    packages = {
        ("simenv" if name == "simenv-ads" else name): v for name, v in _mapping(manifest.get("packages")).items()
    }
    facts = {"ad_llm": str(manifest.get("world", {}).get("ad_llm"))}
    facts |= {name: _text(_option(manifest, name)) for name in _OPTIONS_OF_MECHANISMS}
    facts |= {f"mechanism {label}": name for label, name in _labelled(_option(manifest, "mechanisms"))}
    facts |= {f"setting {name}": value for name, value in _settings(_option(manifest, "settings"))}
    for name, code in _mapping(manifest.get("code")).items():
        package = _mapping(code).get("package")
        facts[f"code of {name}"] = " ".join(filter(None, (package, _short(_mapping(code).get("sha256")))))
    facts |= {f"file {name}": _short(sha) for name, sha in _mapping(manifest.get("files_sha256")).items()}
    return facts | {f"version of {name}": str(version) for name, version in packages.items()}


def _option(manifest: Mapping[str, Any], name: str) -> Any:
    default = BenchOptions.model_fields[name].get_default(call_default_factory=True)
    return manifest["options"].get(name, OLDEST.get(name, default))


def _labelled(mechanisms: Any) -> Iterator[tuple[str, str]]:
    for text in mechanisms if isinstance(mechanisms, list | tuple) else ():
        label, _, name = str(text).partition("=")
        yield label, name or label


def _settings(settings: Any) -> Iterator[tuple[str, str]]:
    for text in settings if isinstance(settings, list | tuple) else ():
        try:
            target, option, value = parse_setting(str(text))
        except SimenvError:
            continue
        yield f"{target}.{option}", str(value)


def _mixed(manifests: Manifests) -> Iterator[str]:
    for run, manifest in manifests.items():
        resumed = manifest.get("resumed")
        for entry in map(_mapping, resumed if isinstance(resumed, list) else ()):
            if "changed_code" in entry:
                yield f"{run} went on with other code after {entry.get('after_auctions')} auctions"


def _differing(facts: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Returns a line per fact that differs between the runs that have it: "judge is A in RUN1 and RUN2, B in RUN3"."""
    lines: dict[str, str] = {}
    for fact in dict.fromkeys(name for run_facts in facts.values() for name in run_facts):
        runs_by_value: dict[str, list[str]] = {}
        for run, run_facts in facts.items():
            if fact in run_facts:
                runs_by_value.setdefault(run_facts[fact], []).append(run)
        if len(runs_by_value) > 1 and _HASH_OF.get(fact) not in lines:
            values = ", ".join(f"{value} in {' and '.join(runs)}" for value, runs in runs_by_value.items())
            lines[fact] = f"{fact} is {values}"
    return list(lines.values())


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _short(sha256: Any) -> str:
    return str(sha256)[:12]
