"""Low-rank adaptation: y = W x + (alpha / r) B A x, with W frozen (Hu et al. 2021, "LoRA", section 4.1).

The files are peft's (adapter_config.json, adapter_model.safetensors), so peft reads them too. Weights are not merged:
in bf16 a merged W would round most of a small update away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simenv.errors import DataFileError, InputError

_PREFIX = "base_model.model."
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear layers of a block: names as in Llama and Qwen models."""


class LoRALinear(nn.Module):
    """A frozen linear layer with a trainable update of rank r."""

    def __init__(self, base: nn.Linear, r: int, alpha: float, seed: int) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / r
        # A as in peft: uniform within 1 / sqrt(fan in) (Kaiming with a = sqrt(5)); B = 0, so training starts at W.
        generator = torch.Generator().manual_seed(seed)
        bound = base.in_features**-0.5
        a = torch.empty(r, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(a.to(base.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, r, device=base.weight.device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        update = nn.functional.linear(nn.functional.linear(x, self.lora_A.to(x.dtype)), self.lora_B.to(x.dtype))
        return torch.add(self.base(x), update, alpha=self.scale)


def inject(model: Any, r: int, alpha: float, seed: int = 0, blocks: Sequence[int] = ()) -> dict[str, nn.Parameter]:
    """Puts a LoRALinear around every target layer of `model`, freezes the rest, and returns what trains, by name.

    Args:
        model: A Llama or Qwen model of transformers.
        r, alpha: Rank and scale.
        seed: Of A.
        blocks: Numbers of the transformer blocks; all if none is given.

    Raises:
        InputError: the model has fewer blocks.
    """
    model.requires_grad_(False)
    wanted = blocks or range(len(model.model.layers))
    if max(wanted) >= len(model.model.layers):
        raise InputError(f"the model has {len(model.model.layers)} blocks, got {list(blocks)}")
    found = [
        (f"model.layers.{block}.{name}", layer)
        for block in wanted
        for name, layer in model.model.layers[block].named_modules()
        if name.rpartition(".")[2] in TARGETS
    ]
    trained: dict[str, nn.Parameter] = {}
    for number, (name, layer) in enumerate(found):
        parent, _, child = name.rpartition(".")
        wrapped = LoRALinear(layer, r, alpha, seed=seed * 10_000 + number)
        setattr(model.get_submodule(parent), child, wrapped)
        trained[f"{_PREFIX}{name}.lora_A.weight"] = wrapped.lora_A
        trained[f"{_PREFIX}{name}.lora_B.weight"] = wrapped.lora_B
    return trained


def blocks_of(trained: Iterable[str]) -> list[int]:
    """Numbers of the blocks that hold these weights."""
    return sorted({int(name.split(".layers.")[1].split(".")[0]) for name in trained})


def save(folder: Path, trained: dict[str, nn.Parameter], r: int, alpha: float, base: str) -> None:
    """Writes an adapter in bf16, in peft's format."""
    from safetensors.torch import save_file

    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": r,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(TARGETS),
        "layers_to_transform": blocks_of(trained),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    tensors = {name: value.detach().to(torch.bfloat16).cpu().contiguous() for name, value in trained.items()}
    save_file(tensors, folder / "adapter_model.safetensors")


def load(model: Any, folder: Path) -> dict[str, nn.Parameter]:
    """Puts a saved adapter into `model`.

    Raises:
        DataFileError: no adapter there, or one that was made for another model.
    """
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "adapter_model.safetensors")
        r, alpha, blocks = int(config["r"]), float(config["lora_alpha"]), blocks_of(tensors)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataFileError(f"{folder}: not a LoRA adapter: {error}") from None
    other = DataFileError(f"{folder}: the adapter was made for another model: its layers are not this one's")
    if max(blocks) >= len(model.model.layers):
        raise other
    trained = inject(model, r, alpha, blocks=blocks)
    shapes = {name: tuple(value.shape) for name, value in trained.items()}
    if shapes != {name: tuple(value.shape) for name, value in tensors.items()}:
        raise other
    assign(trained, tensors)
    return trained


def assign(trained: dict[str, nn.Parameter], tensors: dict[str, torch.Tensor]) -> None:
    """Sets the weights to those of `tensors`."""
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(tensors[name])
