"""The options of a run, written once: the command line, manifests and the Python functions take them from here.

The groups name what they are about: `WorldOptions`, `ModelOptions`, `MarketOptions` and `FileOptions`. A command takes
the groups that it needs; `BenchOptions` has all. The text under a field is its help on the command line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from simenv.deadlines import check_timeout
from simenv.errors import InputError
from simenv.llm.server_options import OptionsByName
from simenv.market.units import CLICKS_PER_VIEW, check_view_bids
from simenv.records import Record

R = TypeVar("R", bound=Record)


def _shard(value: Any) -> Any:
    """Python's way to name a shard, (0, 4), as the text "0/4"."""
    return "/".join(map(str, value)) if isinstance(value, tuple | list) else value


class Options(Record):
    """A group of options."""

    model_config = ConfigDict(allow_inf_nan=True)  # refused by `check_ranges`, which names the option


class PersonaOptions(Options):
    """Who asks."""

    personas: str = "everyday"
    """Pack name, or .csv, .tsv, .jsonl, .parquet file."""
    persona_columns: str | None = None
    """OURS=THEIRS,... for other column names in the personas file."""


class WorldOptions(PersonaOptions):
    """Who asks, and what is asked."""

    queries: str | None = None
    """Pack name, .txt file with one query a line, or a table with a text column."""
    query_columns: str | None = None
    """OURS=THEIRS,... for other column names in the queries file."""
    horizon: int = 5
    """Queries per persona and session."""
    turns: str = "auto"
    """How the turns of a session relate: apart (each is an auction of its own), linked (one bid for the session, in an
    order of questions that is drawn; answers know the history), or auto: linked if a mechanism commits to bids for a
    session or the judge remembers ads, else apart."""


class ModelOptions(Options):
    """Language models, and who judges with them."""

    llm: str = "embedded"
    """Ad-LLM, which writes the answers: embedded, scripted, local:FOLDER, a LiteLLM name such as openai/gpt-4o-mini,
    package.module:Class or file.py:Class."""
    api_base: str | None = None
    """Server of the Ad-LLM, e.g. http://127.0.0.1:8080/v1."""
    llm_options: OptionsByName = Field(default_factory=dict)
    """What requests to the Ad-LLM's server ask for, as JSON or OPTION=VALUE,...: temperature, top_p, max_tokens,
    frequency_penalty, presence_penalty, reasoning_effort, extra_body. For LiteLLM names alone."""
    judge_llm: str | None = None
    """User-LLM, which writes queries and judges. By default the Ad-LLM if it follows formats."""
    judge_api_base: str | None = None
    """Server of the User-LLM."""
    judge_llm_options: OptionsByName = Field(default_factory=dict)
    """The same for the User-LLM. By default those of the Ad-LLM if it is the same model."""
    judge: str = "auto"
    """auto, click (the click model), click:WORLD (the same in the world v1, rare, labels, fatigue or a .toml file),
    embedded (embedded models' likelihoods), llm, package.module:Class or file.py:Class."""
    judge_ensemble: tuple[str, ...] = ()
    """Several judges in one: NAME,NAME,... (click, embedded, a language model's name; NAME#wording2)."""
    judge_samples: int = 1
    """Verdicts per answer of a language model without probabilities."""
    concurrency: int = 16
    """Most calls in flight to a server."""
    timeout: float = 120.0
    """Seconds per call to a server, from the request to the last byte of the reply."""
    trust_remote_code: bool = False
    """Run the code that a local model's folder brings along (auto_map in its config.json), if the model needs it."""


class CatalogOptions(Options):
    """The ads."""

    catalog: str = "everyday"
    """Pack name, or a table with a column title."""
    catalog_columns: str | None = None
    """OURS=THEIRS,... for other column names in the catalog file."""


class MarketOptions(CatalogOptions):
    """The catalog, and the auction over it."""

    values: str = "uniform"
    """Private values per click: uniform (integers in 1..100), lognormal, package.module:Class or file.py:Class."""
    candidates: int = 8
    """Candidate ads per auction."""
    max_ads: int = 2
    """Number of ads that is free of penalty."""
    reserve: float = 0.0
    """Least price, currency per click."""
    view_bids: float = 0.0
    """Share of the advertisers who bid per view instead of per click, from 0 to 1, drawn by the ad's id. It takes
    mechanisms that take bids per view: production, gsp, first_price, fixed_slots, organic, or your own with units."""
    clicks_per_view: float = CLICKS_PER_VIEW
    """Clicks that an advertiser expects of a view, above 0 and at most 1: it multiplies values and bids of those who
    bid per view."""
    strict: bool = False
    """Refuse charges that no bid covers: above the bid, or of ads that are not shown. Otherwise tables count them as
    overcharges."""
    penalty: str = "linear"
    """What extra ads and violations cost the platform: linear, package.module:Class or file.py:Class."""


class BidderOptions(Options):
    """How advertisers bid."""

    bidder: str = "truthful"
    """truthful, uniform (in 1..100, as in the paper), shaded:FACTOR, roi:TARGET, exp3 (learns from its own clicks and
    payments), learned:FILE (the strategies that an audit's advertisers learned: audit.json, or several with commas),
    package.module:Class or file.py:Class."""
    budget: float | None = None
    """Currency that each ad may spend."""
    budget_scope: str = "run"
    """What a budget is for: run or session."""
    pacing: int | None = None
    """Auctions of an ad over which its budget should last."""


class FileOptions(Options):
    """Completions on disk."""

    record: str | None = None
    """Write every completion to this new .jsonl file."""
    replay: str | None = None
    """Take every completion from this file, without any model."""
    cache: str | None = None
    """Take completions from this file where it has them; add those that are missing."""


class RunOptions(WorldOptions, ModelOptions, MarketOptions, FileOptions):
    """What benchmarks and audits have in common."""

    mechanisms: tuple[str, ...] = ()
    """Comma-separated names, package.module:Class or file.py:Class; LABEL=NAME to rename."""
    ctr_model: str = "cosine"
    """What mechanisms predict of clicks: cosine, learned:FILE, oracle, package.module:Class or file.py:Class."""
    settings: tuple[str, ...] = ()
    """NAME.OPTION=VALUE for any plug-in of the run (mechanism, judge, model, bidder, ...), for instance best_of_n.n=8;
    KIND/NAME.OPTION=VALUE where two plug-ins have one name. Repeatable."""
    answer_timeout: float | None = None
    """Seconds that a mechanism has for each answer, and a judge for each verdict; no limit by default. It is wall time,
    in which other answers run too."""
    seed: int = 0
    """Names the run: order of personas, values, bids, clicks, samples."""


class EngineOptions(Options):
    """Where the chunks of a run are computed. A resumed run may have others."""

    engine: str = "local"
    """local: this process; ray: worker processes on a Ray cluster, which give the same rows (pip install
    'simenv-ads[ray]')."""
    ray_address: str | None = None
    """The Ray cluster, HOST:PORT or auto; by default one on this machine, which ends with the run."""
    workers: int | None = None
    """Worker processes of the engine ray; by default one for each of the cluster's processors, or of its GPUs if a
    model runs on them."""


class BenchOptions(RunOptions, BidderOptions, EngineOptions):
    """Everything that names a benchmark; its manifest holds it as it is."""

    n: int = 64
    """Number of auctions."""
    baseline: str | None = None
    """What differences are against; the first mechanism by default."""
    quality: str = "embedded"
    """Answer quality: embedded, likelihood (by the Ad-LLM too), llm (by the User-LLM), gem (GEM-Bench's quantities
    too), gem_judged (and its six grades), none, package.module:Class or file.py:Class."""
    metrics: tuple[str, ...] = ()
    """Metrics beside the built-in ones, comma-separated: detection (how well a frozen classifier finds the ads),
    package.module:Class or file.py:Class."""
    conversions: float | None = None
    """Conversions per click, for instance 0.05: users may buy after a click (simenv.conversions). Off by default."""
    chunk: int = 16
    """Auctions that are written together, and after which a resumed run goes on. With a local model whose texts depend
    on what shares their batch, also the auctions whose answers are one batch."""
    shard: Annotated[str | None, BeforeValidator(_shard)] = None
    """INDEX/COUNT, numbered from 0, e.g. 0/4: run this part of the run alone; `simenv merge` joins all parts."""
    fail_on_error: float = 0.2
    """How many answers may fail, after all retries, before the run stops: a share below 1 (from the fifth failure on),
    or a number. 0: none."""
    fail_on_bug: bool = True
    """Whether an error in the code of a mechanism, judge or bidder ends the run. Otherwise it is a failed answer."""
    fail_on_useless: float = 0.2
    """Largest share of refusals, and of empty answers, of a mechanism; above it the command ends with exit code 1."""
    max_cost: float | None = None
    """Dollars that calls to models may cost before no answer begins any more; no limit by default. Answers that have
    begun are finished. Resumed parts of a run count together, here and in the next two."""
    max_calls: int | None = None
    """The same for the number of calls to models, without retries and without what a cassette has."""
    max_hours: float | None = None
    """The same for the hours in which the run answers."""


class AnswerOptions(Options):
    """How answers that somebody else's system wrote are read."""

    query: str | None = None
    """Column of the question. By default query, question, prompt, ...; the other columns have usual names too."""
    response: str | None = None
    """Column of the answer."""
    ads: str | None = None
    """Column of the ads that the answer shows: ids with | between them, or JSON."""
    ads_as: str = "auto"
    """How answers show ads: markup (the links of mechanisms), links (Markdown links), names (in the text), list (the
    column of ads), none; auto: the first of list, markup and links that a system's answers have, else names."""
    persona: str | None = None
    """Column of the user: a persona's id, or a description. By default drawn from the personas, by the question."""
    system: str | None = None
    """Column of the system that wrote the answer; by default the file's name."""
    bid: str | None = None
    """Column of bids, currency per click."""
    price: str | None = None
    """Column of prices, currency per click."""
    value: str | None = None
    """Column of values per click; by default the bids."""
    reference: str | None = None
    """What quality is compared with: column of an answer without ads, model (the model llm writes one), or none; by
    default the column reference or ad_free, if there is one, else none."""
    id: str | None = None
    """Column that names the auction: answers of several systems with one id are compared."""
    skip_bad: bool = False
    """Leave out rows that cannot be scored, and count them; otherwise they are an error."""


class ScoreOptions(PersonaOptions, CatalogOptions, ModelOptions, FileOptions, AnswerOptions):
    """How answers that somebody else's system wrote are read and judged."""

    llm: str = "embedded"
    """Model that writes answers without ads if reference is model, and judges if judge is llm. Named as in bench."""
    max_ads: int = 2
    """Number of ads that is free of penalty."""
    penalty: str = "linear"
    """What extra ads and violations cost: linear, package.module:Class or file.py:Class."""
    quality: str = "embedded"
    """Answer quality: embedded, likelihood, llm, gem, gem_judged, none, package.module:Class or file.py:Class."""
    conversions: float | None = None
    """Conversions per click, for instance 0.05: users may buy after a click (simenv.conversions). Off by default."""
    metrics: tuple[str, ...] = ()
    """Metrics beside the built-in ones, comma-separated: detection (how well a frozen classifier finds the ads),
    package.module:Class or file.py:Class."""
    settings: tuple[str, ...] = ()
    """NAME.OPTION=VALUE for the judge, the model and other plug-ins. Repeatable."""
    baseline: str | None = None
    """System that differences are against; the first one by default."""
    seed: int = 0
    """Names the draws of personas and clicks."""
    chunk: int = 16
    """Auctions that are written together."""
    fail_on_error: float = 0.2
    """How many verdicts may fail before the scoring stops: a share below 1, or a number. 0: none."""
    fail_on_useless: float = 0.2
    """Largest share of refusals, and of empty answers, of a system; above it the command ends with exit code 1."""
    max_cost: float | None = None
    """Dollars that calls to models may cost before no verdict begins any more; no limit by default."""
    max_calls: int | None = None
    """The same for the number of calls to models."""
    max_hours: float | None = None
    """The same for the hours in which the models answer."""


OLDEST: Mapping[str, Any] = {
    "values": "uniform",
    "penalty": "linear",
    "strict": False,
    "quality": "none",
    "judge_ensemble": [],
    "judge_samples": 1,
    "metrics": [],
    "trust_remote_code": False,
    "llm_options": {},
    "judge_llm_options": {},
    "shard": None,
    "conversions": None,
    "turns": "apart",
    "view_bids": 0.0,
    "clicks_per_view": CLICKS_PER_VIEW,
}
"""What a run did whose manifest does not have the option."""
_LEAST = {
    "n": 1,
    "chunk": 1,
    "concurrency": 1,
    "horizon": 1,
    "judge_samples": 1,
    "workers": 1,
    "candidates": 0,
    "max_ads": 0,
    "reserve": 0,
    "fail_on_error": 0,
    "fail_on_useless": 0,
    "max_calls": 1,
}


def read_options(kind: type[R], given: Mapping[str, Any]) -> R:
    """Options from what a caller gave, in the types of their fields.

    Raises:
        InputError: an unknown option, or a value of another type.
    """
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        raise InputError(_first_error(error, kind.model_fields)) from None


def check_ranges(options: Record) -> None:
    """Raises InputError if a number of `options` is out of its range."""
    for name, least in _LEAST.items():
        number = getattr(options, name, None)
        if number is not None and not least <= number < math.inf:
            raise InputError(f"{name} must be at least {least}, got {number}")
    timeout = getattr(options, "timeout", 1.0)
    if not 0 < timeout < math.inf:
        raise InputError(f"timeout must be above 0, got {timeout}")
    for name in ("max_cost", "max_hours"):
        number = getattr(options, name, None)
        if number is not None and not 0 < number < math.inf:
            raise InputError(f"{name} must be above 0, got {number}")
    check_timeout(getattr(options, "answer_timeout", None))
    if isinstance(options, MarketOptions):
        check_view_bids(options.view_bids, options.clicks_per_view)


def names_of(text: str | None) -> tuple[str, ...]:
    """The names of a comma-separated list."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _first_error(error: ValidationError, known: Iterable[str]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])  # the rest is of a value's inside
    if first["type"] == "extra_forbidden":
        return f"unknown option {name!r}: known are {', '.join(sorted(known))}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if first["type"] == "tuple_type":
        message = "expected a list"
    return f"option {name}: {message}, got {first['input']!r:.80}"


def options_of_manifest(options: Mapping[str, Any], where: str) -> BenchOptions:
    """The options of a run from its manifest. Options that it does not have are those of the version that wrote it.

    Raises:
        InputError: they are no options that can be run.
    """
    known = {name: value for name, value in {**OLDEST, **options}.items() if name in BenchOptions.model_fields}
    try:
        return BenchOptions.model_validate(known)
    except ValidationError as error:
        raise InputError(f"{where}: its manifest has no options that can be run: {error.errors()[0]['msg']}") from None
