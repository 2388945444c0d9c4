"""Shared fixtures. No test reaches a network beyond this machine."""

from __future__ import annotations

import os

import pytest

from simenv.errors import MissingWeights

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _weights(request: pytest.FixtureRequest) -> None:
    """Tests marked `weights` fail with the command to run where the weights are not installed."""
    if request.node.get_closest_marker("weights"):
        from simenv.llm.weights import embedded_path, encoder_path

        try:
            encoder_path()
            embedded_path()
        except MissingWeights as error:
            pytest.fail(str(error))
