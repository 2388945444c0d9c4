"""What advertisers bid for: clicks, or views of their ads."""

from __future__ import annotations

from simenv.errors import InputError
from simenv.records import Ad, Unit
from simenv.seeding import keyed_rng

CLICKS_PER_VIEW = 0.2
"""Clicks that an advertiser who bids per view expects of a view. Of the ads shown in the click model's default world,
19.5% are clicked (docs/worlds.md)."""


def unit_of(ad: Ad, view_bids: float) -> Unit:
    """What an ad's advertiser bids for, drawn by the ad's id: the same in every auction of every run.

    Args:
        ad: The ad.
        view_bids: Share of the advertisers who bid per view. Who bids per view at one share does so at any larger one.
    """
    if not view_bids:
        return "click"
    return "view" if keyed_rng("bid unit", ad.id).random() < view_bids else "click"


def check_view_bids(view_bids: float, clicks_per_view: float) -> None:
    """Raises InputError if one of the two numbers is out of range."""
    if not 0 <= view_bids <= 1:
        raise InputError(f"view_bids must be a share of advertisers, from 0 to 1, got {view_bids}")
    if not 0 < clicks_per_view <= 1:
        raise InputError(f"clicks_per_view must be above 0 and at most 1, got {clicks_per_view}")
