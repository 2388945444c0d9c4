"""The module by whose name verifiers finds simenv: `PYTHONPATH=examples/verifiers vf-eval simenv-ads ...`."""

from simenv.integrations.verifiers import SimenvEnv, SimenvTaskset

__all__ = ["SimenvEnv", "SimenvTaskset"]
