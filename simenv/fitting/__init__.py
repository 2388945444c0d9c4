"""Worlds fitted to click logs (`simenv fit-world`), and evaluators to judged answers (`simenv fit-evaluator`)."""

from simenv.fitting.fit import FittedWorld, fit_world
from simenv.fitting.log import ClickLog, read_click_log

__all__ = ["ClickLog", "FittedWorld", "fit_world", "read_click_log"]
