"""The back end "trl" of `pairs.py`: TRL's DPOTrainer with peft's LoRA.

On several GPUs: `accelerate launch $(which simenv) train llm-auction --from FILE --set backend=trl ...`. An interrupted
training resumes from TRL's last checkpoint.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from simenv.errors import InputError
from simenv.files.folders import ensure_folder
from simenv.llm.model_folder import unreadable
from simenv.llm.special_tokens import broken_up, safe_prompt

from . import lora
from .folder import base_model, now, save_state, write_manifest
from .pair_data import PairConfig, Pairs, PreferencePair, counts, resume, write_curve


def train_with_trl(config: PairConfig, pairs: Pairs, out: Path, console: Console) -> None:
    """Trains on pairs with TRL's DPOTrainer; see `pairs.train`.

    Raises:
        InputError: trl or peft is not installed, or `config.llm` names a folder without a model.
        DataFileError: the folder holds no training, or a training on another file.
    """
    try:
        from datasets import Dataset
        from peft import LoraConfig
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.trainer_utils import get_last_checkpoint
        from trl import DPOConfig, DPOTrainer
    except ImportError as error:
        raise InputError(f"backend trl: {error}: pip install 'simenv-ads[train]'") from None
    resume(out, config, pairs)
    base = base_model(config.llm)
    if not (base / "config.json").is_file():
        raise InputError(f"no transformers model at {base}: expected a folder with config.json and weights")
    on_gpu, processes = torch.cuda.is_available(), int(os.environ.get("WORLD_SIZE", "1"))
    checkpoints = out / "checkpoints"
    started, measured = now(), bool(pairs.held_out)
    try:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    except Exception as error:  # a damaged file may raise anything
        raise unreadable(base, error) from error
    trainer = DPOTrainer(
        model=model,
        processing_class=tokenizer,
        args=DPOConfig(
            output_dir=str(checkpoints),
            seed=config.seed,
            num_train_epochs=config.epochs,
            per_device_train_batch_size=1,
            per_device_eval_batch_size=1,
            gradient_accumulation_steps=max(1, config.batch // processes),
            beta=config.beta,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=config.warmup,
            max_length=None,  # do not truncate
            gradient_checkpointing=config.checkpointing,
            bf16=on_gpu,
            use_cpu=not on_gpu,
            logging_steps=1,
            save_steps=config.save_every,
            save_total_limit=1,
            eval_strategy="epoch" if measured else "no",
            report_to="none",
        ),
        train_dataset=Dataset.from_list([_conversation(pair) for pair in pairs.train]),
        eval_dataset=Dataset.from_list([_conversation(pair) for pair in pairs.held_out]) if measured else None,
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=config.r,
            lora_alpha=config.alpha,
            lora_dropout=0.0,
            target_modules=list(lora.TARGETS),
            layers_to_transform=list(config.blocks) or None,
        ),
    )
    if trainer.is_world_process_zero():
        ensure_folder(out)
        save_state(out, config, {"sha256": pairs.sha256})
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None)
    trainer.save_model(str(out))
    if trainer.is_world_process_zero():
        write_curve(_curve(trainer.state.log_history), out)
        facts = {"started": started, "finished": now(), "base_model": base.name, **counts(pairs)}
        write_manifest(out, config, facts, ("trl", "peft", "accelerate"))
        console.print(f"written to {out}", highlight=False, soft_wrap=True)


def _conversation(pair: PreferencePair) -> dict[str, Any]:
    prompt = safe_prompt(pair.prompt)
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return {
        "prompt": [*system, {"role": "user", "content": prompt.user}],
        "chosen": [{"role": "assistant", "content": broken_up(pair.chosen)}],
        "rejected": [{"role": "assistant", "content": broken_up(pair.rejected)}],
    }


def _curve(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for row in history:
        for part, prefix in (("train", ""), ("held_out", "eval_")):
            if f"{prefix}rewards/margins" in row:
                facts = {name: row[f"{prefix}rewards/{key}"] for name, key in _NAMES.items()}
                rows.append({"update": row["step"], "part": part, "loss": row[f"{prefix}loss"], **facts})
    return rows


_NAMES = {"accuracy": "accuracies", "margin": "margins"}
