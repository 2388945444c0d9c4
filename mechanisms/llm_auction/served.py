"""Samples whole answers on an inference server that loads the policy's adapter, for models too slow to sample here.

The server is one with vLLM's requests for adapters. Before answers are sampled, the present adapter is written to a
folder that the server can read, POST /v1/load_lora_adapter loads it under a new name, and the one before is unloaded:

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve MODEL --enable-lora --max-lora-rank 64
"""

from __future__ import annotations

import http.client
import json
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from simenv.errors import LLMRefused, LLMUnavailable
from simenv.llm import LLM, make_llm

from . import lora
from .policy import AdaptedLLM

_SECONDS = 300.0
"""Limit of a request: a large adapter takes a while to load."""


class AdapterServer:
    """A server with the policy's adapter.

    Args:
        policy: The policy.
        url: The server's URL, with /v1.
        r, alpha: Rank and scale of the adapter.
        folder: Where adapters are written for the server; None: a new temporary folder.
    """

    def __init__(self, policy: AdaptedLLM, url: str, *, r: int, alpha: float, folder: str | Path | None = None) -> None:
        self._policy = policy
        self._url = url.rstrip("/")
        self._r, self._alpha = r, alpha
        self._folder = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="simenv-adapters-"))
        self._served: tuple[int, str, LLM] | None = None

    def llm(self) -> LLM:
        """The served model with the present adapter, which is loaded if it has changed.

        Raises:
            LLMUnavailable: the server cannot be reached.
            LLMRefused: it does not load the adapter.
        """
        version = self._policy.version
        if self._served is None or self._served[0] != version:
            before = self._served
            name = f"simenv-{self._policy.base}-{version}"
            folder = (self._folder / name).resolve()
            lora.save(folder, self._policy.trained, self._r, self._alpha, self._policy.base)
            self._post("load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
            self._served = version, name, make_llm(f"openai/{name}", api_base=self._url, api_key="none")
            if before is not None:
                self._post("unload_lora_adapter", {"lora_name": before[1]})
        return self._served[2]

    def _post(self, what: str, body: dict[str, str]) -> None:
        url, content = f"{self._url}/{what}", json.dumps(body).encode()
        try:
            request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=_SECONDS) as reply:
                reply.read()
        except urllib.error.HTTPError as error:
            said = error.read(500).decode(errors="replace")
            raise LLMRefused(
                f"{url}: status {error.code}, {said!r}",
                hint="vLLM needs --enable-lora, --max-lora-rank of at least r, and the environment variable "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; it must be able to read the folder of the adapter",
            ) from None
        except (OSError, ValueError, http.client.HTTPException) as error:  # the last: what answers speaks no HTTP
            raise LLMUnavailable(f"{url}: {error}") from None
