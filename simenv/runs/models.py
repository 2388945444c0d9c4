"""The language models of a run, each built once, and the file of completions that they may go through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simenv import registry
from simenv.errors import InputError
from simenv.judges.base import JUDGE, Judge
from simenv.judges.factory import make_judge, pick_user_llm
from simenv.llm import LANGUAGE_MODEL, LLM, make_llm
from simenv.llm.base import display_name
from simenv.llm.cassette import Cassette, CassetteLLM, Mode
from simenv.llm.server_options import server_options
from simenv.runs.options import RunOptions
from simenv.runs.settings import PartOptions


class Models:
    """Builds the language models that the options of a run name.

    Args:
        options: The options.
        part_options: The models' own options.
        cassette: The file that completions go through, if there is one.
    """

    def __init__(self, options: RunOptions, part_options: PartOptions, cassette: Cassette | None) -> None:
        self._options = options
        self._part_options = part_options
        self._cassette = cassette

    def ad_llm(self) -> LLM:
        """The model that writes the answers."""
        options = self._options
        return self._make(options.llm, options.api_base, options.llm_options)

    def named_user_llm(self, ad_llm: LLM) -> LLM | None:
        """The User-LLM that the options name, if they name one: `ad_llm` where it is the same model."""
        options = self._options
        asked = options.judge_llm_options
        if options.judge_llm is None and not asked:
            return None
        name, api_base = options.judge_llm or options.llm, options.judge_api_base or options.api_base
        if name == options.llm and api_base == options.api_base and asked in ({}, options.llm_options):
            return ad_llm
        return self._make(name, api_base, asked)

    def another(self, name: str) -> LLM:
        """A judge's model, with the server and options of the User-LLM."""
        options = self._options
        api_base = options.judge_api_base or options.api_base
        local = registry.is_name_of(LANGUAGE_MODEL, name)
        return self._make(name, api_base, {} if local else options.judge_llm_options)

    def judge(self, named: LLM | None, ad_llm: LLM | None) -> Judge:
        """The judge of the options.

        Args:
            named: The User-LLM that they name.
            ad_llm: The model that writes the answers, which may judge them.
        """
        options = self._options
        user_llm = pick_user_llm(options.judge, named, ad_llm)
        known = {} if ad_llm is None else {options.llm: ad_llm}
        if user_llm is not None:
            known[options.judge_llm or options.llm] = user_llm

        def find_llm(name: str) -> LLM:  # a model that is built already is not loaded again
            return known[name] if name in known else self.another(name)

        return make_judge(
            options.judge,
            llm=named,
            ad_llm=ad_llm,
            ensemble=options.judge_ensemble,
            samples=options.judge_samples,
            find_llm=find_llm,
            options={name: self._part_options.of(JUDGE, name) for name in judge_names(options)},
        )

    def _make(self, name: str, api_base: str | None, asked: Mapping[str, Any]) -> LLM:
        """A model by name, through the cassette if there is one; `asked` are the options of its server."""
        if self._cassette is not None and self._cassette.mode == "replay":
            return CassetteLLM(self._cassette, name=display_name(name), server_options=server_options(asked))
        llm = make_llm(
            name,
            api_base=api_base,
            concurrency=self._options.concurrency,
            timeout=self._options.timeout,
            trust_remote_code=self._options.trust_remote_code,
            options=self._part_options.of(LANGUAGE_MODEL, name),
            server_options=asked,
        )
        return CassetteLLM(self._cassette, llm) if self._cassette is not None else llm


def judge_names(options: RunOptions) -> Sequence[str]:
    """The judges that the options may come to."""
    if options.judge_ensemble:
        return options.judge_ensemble
    return ("click", "llm") if options.judge == "auto" else (options.judge,)


def open_cassette(options: RunOptions, resume: bool = False, *, collect: bool = False) -> Cassette | None:
    """The file of completions that the options name, if they name one.

    Args:
        options: The options.
        resume: Whether the run goes on.
        collect: Whether another process writes it.
    """
    modes: tuple[Mode, ...] = ("record", "replay", "cache")
    given = [(mode, path) for mode in modes if (path := getattr(options, mode)) is not None]
    if len(given) > 1:
        raise InputError(f"record, replay and cache exclude each other, got {' and '.join(mode for mode, _ in given)}")
    if not given:
        return None
    mode, path = given[0]
    # A resumed recording goes on where it was: what is in the file is not asked for again.
    return Cassette(path, "cache" if mode == "record" and resume else mode, collect=collect and mode != "replay")
