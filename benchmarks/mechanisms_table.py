"""Writes mechanisms/README.md: each mechanism's rules, claims, audit results and cost.

simenv audit ... --llm scripted --out FOLDER, its audit.json kept under benchmarks/results/audit/
python benchmarks/cost_of_n.py
python benchmarks/mechanisms_table.py

Claims come from the mechanism classes, all other numbers from these files; a missing number is shown as "-".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from simenv.auditing.records import Audit, Audited
from simenv.auditing.report import show
from simenv.llm import ScriptedLLM
from simenv.mechanism import Claim, make_mechanism, mechanism_names

ROOT = Path(__file__).parent.parent
AUDITS = Path(__file__).parent / "results" / "audit"
COSTS = Path(__file__).parent / "results" / "cost_of_n.json"
README = ROOT / "mechanisms" / "README.md"


class Facts(NamedTuple):
    """A short description of a mechanism; its file has the exact rules and their relation to the paper."""

    family: str
    file: str
    paper: str
    allocation: str
    payment: str


FACTS = {
    "organic": Facts("no auction", "organic.py", "-", "no ads", "none"),
    "prompted": Facts(
        "no auction",
        "prompted.py",
        'LLM-Auction (2025), "pre-trained LLM"',
        "the untrained model chooses, seeing all bids",
        "first price per click",
    ),
    "gem_insert": Facts(
        "no auction",
        "gem_insert.py",
        "GEM-Bench (2025), GI-R, GIR-R, GIR-P",
        "similar to the answer or the question, and breaks it least",
        "first price per click",
    ),
    "fixed_slots": Facts(
        "no auction",
        "fixed_slots.py",
        "answer engines' sponsored lines",
        "b q, listed under the answer",
        "GSP per click",
    ),
    "production": Facts(
        "pre-generation",
        "production.py",
        "ChatGPT ads, help pages (2026); our reading",
        "relevance x b q per click, relevance x b per view; one card under the answer",
        "second price, per click or per view",
    ),
    "first_price": Facts("pre-generation", "first_price.py", "-", "b q, top K", "the bid per click"),
    "gsp": Facts(
        "pre-generation",
        "gsp.py",
        "Edelman, Ostrovsky, Schwarz (2007); Varian (2007)",
        "b q, top K",
        "the next score per click",
    ),
    "vcg": Facts("pre-generation", "vcg.py", "Vickrey, Clarke, Groves; Varian (2007)", "b q, top K", "VCG per click"),
    "myerson": Facts(
        "pre-generation", "myerson.py", "Myerson (1981)", "virtual value x q, top K", "critical bids, own reserves"
    ),
    "segment": Facts(
        "pre-generation",
        "segment.py",
        "Hajiaghayi, Lahaie, Rezaei, Shin (2024)",
        "drawn in proportion to b q",
        "critical bid under the same noise",
    ),
    "summary": Facts(
        "pre-generation",
        "summary.py",
        "Dubey, Feng, Kidambi, Mehta, Wang (2024)",
        "b q, words by prominence",
        "Myerson integral per click",
    ),
    "position_auction": Facts(
        "pre-generation",
        "position_auction.py",
        "Balseiro et al. (2025)",
        "best matching of ads to sentences, logit clicks",
        "VCG per click",
    ),
    "genre_vcg": Facts(
        "pre-generation",
        "genre_vcg.py",
        "Xu, Chen, Deng, Huang, Schoenebeck (2026)",
        "best matching of ads to paragraph ends by b x coherence of the genre",
        "VCG per click",
    ),
    "fixed_turn": Facts(
        "one ad a session", "fixed_turn.py", "-", "b q, in a turn that is an option", "second price per click"
    ),
    "optimal_stopping": Facts(
        "one ad a session",
        "optimal_stopping.py",
        "Fang et al. (2026)",
        "b q, in the turn that maximises its expectation",
        "Clarke payment of the session per click",
    ),
    "first_price_timing": Facts(
        "one ad a session",
        "first_price_timing.py",
        "Banchio, Mehta, Perlroth (2024)",
        "b q, in the turn where it is worth most",
        "the bid per click",
    ),
    "second_price_timing": Facts(
        "one ad a session",
        "second_price_timing.py",
        "Banchio, Mehta, Perlroth (2024)",
        "b q, in the turn where the second one is worth most",
        "second price per click",
    ),
    "sponsored_questions": Facts(
        "pre-generation",
        "sponsored_questions.py",
        "Bhawalkar, Psomas, Wang (2025)",
        "best set of follow-up questions, with the best ad of each",
        "VCG per click",
    ),
    "lera": Facts(
        "pre-generation",
        "lera.py",
        "Sun et al. (2026)",
        "b q to a short list, then b x the model's relevance",
        "critical bid",
    ),
    "screened_vcg": Facts(
        "pre-generation",
        "quality_preserving.py",
        "Han, Dai (2026)",
        "b q minus the ad's quality cost",
        "VCG per click",
    ),
    "quality_preserving": Facts(
        "pre-generation",
        "quality_preserving.py",
        "Han, Dai (2026)",
        "one ad or none, drawn by marginal welfare",
        "critical bid under the same noise",
    ),
    "softmax": Facts(
        "pre-generation",
        "softmax.py",
        "McSherry, Talwar (2007)",
        "one ad or none, drawn by b q",
        "first price per click",
    ),
    "rewrite": Facts(
        "post-generation",
        "rewrite.py",
        "Feizi et al. (2023); Mordo, Tennenholtz, Kurland (2024)",
        "b q, the whole answer rewritten for each winner",
        "VCG per click",
    ),
    "best_of_n": Facts(
        "post-generation",
        "best_of_n.py",
        "LLM-Auction (2025), section 2",
        "best of N answers by b q(y)",
        "VCG per click",
    ),
    "mosaic": Facts(
        "post-generation",
        "mosaic.py",
        "Soumalias, Curry, Seuken (2025)",
        "one of M answers, drawn by weight x exp(sum b q / tilt)",
        "VCG-like transfer per answer",
    ),
    "lama": Facts(
        "post-generation",
        "lama.py",
        "Liu, Zhang, Yu, Ye, Qi (2026)",
        "answer and the ad that wins it, drawn by prior x exp(b q / kl_weight)",
        "potential (envelope) price per click of the winner",
    ),
    "token_auction": Facts(
        "generative",
        "token_auction.py",
        "Duetting, Mirrokni, Paes Leme, Xu, Zuo (2024)",
        "every token from the bidders' mixed models",
        "second price by stable sampling, a transfer",
    ),
    "lama_tokens": Facts(
        "generative",
        "lama_tokens.py",
        "Liu, Zhang, Yu, Ye, Qi (2026)",
        "every token from a latent bidder's model, the winner from the posterior",
        "potential (envelope) price per click of the winner",
    ),
    "llm_auction": Facts(
        "generative",
        "llm_auction/",
        "LLM-Auction (2025)",
        "the trained model writes answer and ads",
        "first price per click",
    ),
    "tilted_optimum": Facts(
        "generative",
        "tilted_optimum.py",
        "LLM-Auction (2025), section 3",
        "drawn by prior x exp(R / kl_weight) from a menu",
        "first price per click",
    ),
    "menu_optimum": Facts(
        "generative",
        "menu_optimum.py",
        "LLM-Auction (2025), eq. 5",
        "the best answer of the menu",
        "first price per click",
    ),
}

SHORT = {
    Claim.INDIVIDUALLY_RATIONAL: "IR",
    Claim.MONOTONE: "monotone",
    Claim.TRUTHFUL_UM: "DSIC for UM",
    Claim.RATIONAL_IN_EXPECTATION: "IR in expectation",
    Claim.MONOTONE_IN_EXPECTATION: "monotone in expectation",
    Claim.TRUTHFUL_UM_IN_EXPECTATION: "truthful in expectation for UM",
    Claim.TRUTHFUL_VM: "truthful for VM",
    Claim.BID_FREE_CANDIDATES: "bid-free candidates",
}


def main() -> None:
    README.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole README of the folder."""
    audits = read_audits()
    costs = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.is_file() else {"mechanisms": {}, "candidates": []}
    audited = {label: m for audit in audits for label, m in audit.mechanisms.items()}
    names = [*FACTS, *(name for name in mechanism_names() if name not in FACTS)]
    parts = [
        "# Mechanisms",
        "Written by `benchmarks/mechanisms_table.py`. There is one file per mechanism. Your own mechanism is audited "
        "in the same way: `simenv audit my_file.py:MyMechanism`.",
        "Audits of gem_insert, production, genre_vcg, summary, sponsored_questions, lama, lama_tokens and the "
        "mechanisms of one ad a session, and all costs per answer, are of this version. The other audits were made "
        "before the writer checked its sentences against the ads' copy, with the embedded model on transformers in "
        "bfloat16; now it runs on onnxruntime in float32 and writes other texts.",
        "## Allocation and payment rules",
        "b is a bid per click, q a predicted click probability, R = sum b q minus penalties.",
        _table(
            ("mechanism", "family", "paper", "allocation", "payment"),
            [
                (f"[{n}]({FACTS[n].file})", FACTS[n].family, *FACTS[n][2:]) if n in FACTS else (n, *("-",) * 4)
                for n in names
            ],
        ),
        "## Claims and audit results",
        "UM: utility maximisers, VM: value maximisers, IR: individually rational, DSIC: dominant-strategy incentive "
        "compatible. Truthful in expectation: over the mechanism's own lottery. The UM and VM columns show the regret "
        "of truthful bidding: the gain of the best other bid, as a share of the value of truthful clicks. "
        '"own" is under the mechanism\'s own click predictions, to which its claims refer; "world" is under the '
        "judge's clicks. Falls: share of steps at which the allocation curve decreases in the bid. IR world: share of "
        "truthful advertisers with negative expected utility. Efficiency: welfare divided by the welfare of the best "
        "answer seen.",
        _table(
            (
                "mechanism",
                "claims",
                "measured",
                "UM own",
                "UM world",
                "VM own",
                "VM world",
                "falls own",
                "largest jump",
                "IR world",
                "revenue",
                "efficiency",
            ),
            [_audit_row(name, audited.get(name)) for name in names],
        ),
        "## Results with learning bidders",
        "The auctions are repeated, and all bidders learn their bid shading by multiplicative weights. With budgets: "
        "each budget is half of the payments at truthful bids. Bid share: mean bid divided by value. Collusion: the "
        "joint gain of the two bidders with the largest predicted value, as a share of the value of their clicks, in "
        "the world.",
        _table(
            (
                "mechanism",
                "revenue, truthful",
                "learned",
                "with budgets",
                "efficiency, truthful",
                "learned",
                "bid share",
                "collusion",
            ),
            [_play_row(name, audited.get(name)) for name in names],
        ),
        *(_caption(audit) for audit in audits),
        "## Cost per answer",
        "Calls and tokens of a language model for one answer, and their growth with the number n of candidate ads.",
        _table(
            ("mechanism", *(f"calls, n = {n}" for n in costs["candidates"]), "calls", "tokens"),
            [_cost_row(name, costs["mechanisms"].get(name), len(costs["candidates"])) for name in names],
        ),
        f"Measured on {costs['llm']}, auctions per mechanism and n: {costs['auctions']}. The cost of best_of_n, mosaic "
        "and position_auction also depends on the number of different ads in their texts."
        if "llm" in costs
        else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def read_audits() -> list[Audit]:
    """All audits in `results/audit`, in order of file names; a later audit of the same mechanism takes precedence."""
    return [Audit.model_validate_json(file.read_text(encoding="utf-8")) for file in sorted(AUDITS.glob("*.json"))]


def _caption(audit: Audit) -> str:
    o = audit.options
    some = "" if len(audit.mechanisms) > 5 else f" ({', '.join(audit.mechanisms)})"
    untrained = audit.ad_llm == "scripted" and "llm_auction" in audit.mechanisms
    note = " llm_auction is untrained in this audit: its adapter is for the embedded model." if untrained else ""
    played = f"learning on {o.play} of them ({o.play_seeds} x {o.rounds} rounds), " if o.play else ""
    return (
        f"{audit.auctions} auctions, {played}curves of {o.curve_bids} bids, seed {o.seed}{some}: answers by "
        f"{audit.ad_llm}, clicks by {audit.judge}, predictions {audit.ctr_model}. ± is half the width of a 95% "
        "interval, clustered by persona." + note
    )


def claims_of(name: str) -> str:
    """What a mechanism claims, in short names."""
    claims = getattr(make_mechanism(name, context={"llm": ScriptedLLM()}), "claims", ())
    return ", ".join(text for claim, text in SHORT.items() if claim in claims) or "-"


def _audit_row(name: str, m: Audited | None) -> tuple[str, ...]:
    if m is None:
        return (name, claims_of(name), *("-",) * 10)
    regrets = (m.regret_um_own, m.regret_um_world, m.regret_vm_own, m.regret_vm_world)
    return (
        name,
        claims_of(name),
        m.measured,
        *(show(i, percent=True) for i in regrets),
        show(m.monotonicity_violations, percent=True),
        f"{m.largest_jump:.2f}",
        show(m.ir_violations_world, percent=True),
        show(m.revenue),
        show(m.efficiency),
    )


def _play_row(name: str, m: Audited | None) -> tuple[str, ...]:
    if m is None or not m.play:
        return (name, *("-",) * 7)
    truthful, learned, budgets = (m.play[kind] for kind in ("truthful", "learned", "budgets"))
    money = (truthful.revenue, learned.revenue, budgets.revenue, truthful.efficiency, learned.efficiency)
    return (name, *map(show, money), show(learned.bid_share), show(m.collusion_world, percent=True))


def _cost_row(name: str, cost: dict[str, Any] | None, columns: int) -> tuple[str, ...]:
    if cost is None:
        return (name, *("-",) * (columns + 2))
    calls = (f"{number:.1f}" for number in cost["calls"])
    return (name, *calls, _growth(cost["growth_calls"]), _growth(cost["growth_tokens"]))


def _growth(line: dict[str, Any]) -> str:
    if line["kind"] == "constant":
        return "constant"
    sign = "-" if line["slope"] < 0 else "+"
    return f"{line['intercept']:.4g} {sign} {abs(line['slope']):.3g} n"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
