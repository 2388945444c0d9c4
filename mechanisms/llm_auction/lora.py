"""Low-rank adaptation: y = W x + (alpha / r) B A x, with W frozen (Hu et al. 2021, "LoRA", section 4.1).

Weights are not merged here: in bf16, rounding of a merged W would lose most of a small update.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simenv.errors import InputError
from simenv.files.atomic import write_bytes_atomically
from simenv.files.folders import ensure_folder

from .adapter_files import PREFIX, A, Adapter, Changes, blocks_of, changes_by, of_another_model, read_adapter

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear layers of a block: names as in Llama and Qwen models."""


class LoRALinear(nn.Module):
    """A frozen linear layer with a trainable update of rank r."""

    def __init__(self, base: nn.Linear, r: int, alpha: float, seed: int) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / r
        # A as in peft: uniform in +-1 / sqrt(fan in) (Kaiming with a = sqrt(5)); B = 0, so training starts at W.
        generator = torch.Generator().manual_seed(seed)
        bound = base.in_features**-0.5
        a = torch.empty(r, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(a.to(base.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, r, device=base.weight.device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        update = nn.functional.linear(nn.functional.linear(x, self.lora_A.to(x.dtype)), self.lora_B.to(x.dtype))
        return torch.add(self.base(x), update, alpha=self.scale)


def inject(model: Any, r: int, alpha: float, seed: int = 0, blocks: Sequence[int] = ()) -> dict[str, nn.Parameter]:
    """Wraps every target layer of `model` in a LoRALinear and freezes all other weights.

    Args:
        model: A Llama or Qwen model of transformers.
        r, alpha: Rank and scale.
        seed: Seed of the initial A.
        blocks: Indices of the transformer blocks; all if empty.

    Returns:
        Name in peft's format -> trainable parameter.

    Raises:
        InputError: the model has fewer blocks.
    """
    model.requires_grad_(False)
    selected = blocks or range(len(model.model.layers))
    if max(selected) >= len(model.model.layers):
        raise InputError(f"the model has {len(model.model.layers)} blocks, got {list(blocks)}")
    targets = [
        (f"model.layers.{block}.{name}", layer)
        for block in selected
        for name, layer in model.model.layers[block].named_modules()
        if name.rpartition(".")[2] in TARGETS
    ]
    trained: dict[str, nn.Parameter] = {}
    for number, (name, layer) in enumerate(targets):
        parent, _, child = name.rpartition(".")
        wrapped = LoRALinear(layer, r, alpha, seed=seed * 10_000 + number)
        setattr(model.get_submodule(parent), child, wrapped)
        trained[f"{PREFIX}{name}.lora_A.weight"] = wrapped.lora_A
        trained[f"{PREFIX}{name}.lora_B.weight"] = wrapped.lora_B
    return trained


def save(folder: Path, trained: dict[str, nn.Parameter], r: int, alpha: float, base: str) -> None:
    """Writes an adapter in bf16, in peft's format."""
    from safetensors.torch import save as to_bytes

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
    ensure_folder(folder)
    write_bytes_atomically(folder / "adapter_config.json", (json.dumps(config, indent=1) + "\n").encode())
    tensors = {name: value.detach().to(torch.bfloat16).cpu().contiguous() for name, value in trained.items()}
    write_bytes_atomically(folder / "adapter_model.safetensors", to_bytes(tensors))


def load(model: Any, folder: Path) -> dict[str, nn.Parameter]:
    """Loads a saved adapter into `model`. Returns its parameters as `inject` does.

    Raises:
        DataFileError: the folder has no adapter, a damaged one, or one of another model.
    """
    adapter = read_adapter(folder)
    blocks = blocks_of(adapter.factors)
    if max(blocks) >= len(model.model.layers):
        raise of_another_model(folder)
    trained = inject(model, adapter.r, adapter.alpha, blocks=blocks)
    if not _take(trained, adapter):
        raise of_another_model(folder)
    return trained


def start_from(trained: dict[str, nn.Parameter], alpha: float, folder: Path) -> None:
    """Gives a new adapter, which `inject` made with this alpha, the values of a saved one.

    Raises:
        DataFileError: the folder has no adapter, or a damaged one.
        InputError: the saved adapter has another rank or alpha, or is for other blocks or another model.
    """
    adapter = read_adapter(folder)
    if alpha != adapter.alpha or not _take(trained, adapter):
        rank = next(len(value) for name, value in trained.items() if name.endswith(A))
        raise InputError(
            f"start: {folder} has r {adapter.r}, alpha {adapter.alpha} and blocks {blocks_of(adapter.factors)}, or is "
            f"of another model; this training has r {rank}, alpha {alpha} and blocks {blocks_of(trained)}"
        )


def _take(trained: dict[str, nn.Parameter], adapter: Adapter) -> bool:
    """Copies the values of a saved adapter if it has the same names and shapes. Returns whether it has."""
    fits = {name: tuple(value.shape) for name, value in trained.items()} == {
        name: value.shape for name, value in adapter.factors.items()
    }
    if fits:
        assign(trained, {name: torch.from_numpy(value) for name, value in adapter.factors.items()})
    return fits


def changes(trained: dict[str, nn.Parameter], scale: float) -> Changes:
    """What an adapter in training adds to the weights of its base model; `scale` is alpha / r."""
    return changes_by({name: value.detach().float().cpu().numpy().copy() for name, value in trained.items()}, scale)


def assign(trained: dict[str, nn.Parameter], tensors: dict[str, torch.Tensor]) -> None:
    """Copies the values of `tensors` into the parameters of the same names."""
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(tensors[name])
