"""GRPO with simenv as the reward: a language model learns which ads to weave into its answers (TRL).

    python examples/frameworks/trl_grpo.py [MODEL]

MODEL is a folder or a name of the Hugging Face hub; without it, the embedded SmolLM2-135M. A model of this size cannot
follow the format of the ads, so it only shows that the pieces fit: use one of a billion parameters or more, and a GPU.
"""

import sys
import tempfile

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from simenv.integrations.trl import AuctionReward


def main(model: str, reward: AuctionReward, steps: int = 1, **settings: object) -> list[float]:
    """Trains, and returns the mean reward of each step, in currency."""
    with tempfile.TemporaryDirectory() as out:
        config = GRPOConfig(
            output_dir=out,
            max_steps=steps,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,  # leave these three out on a GPU
            bf16=False,
            disable_tqdm=True,
            **{"per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 64, **settings},
        )
        rows = Dataset.from_list(reward.rows(sessions=50))
        trainer = GRPOTrainer(model=model, reward_funcs=reward, args=config, train_dataset=rows)
        trainer.train()
    return [entry["rewards/simenv/mean"] for entry in trainer.state.log_history if "rewards/simenv/mean" in entry]


if __name__ == "__main__":
    from simenv.llm.weights import embedded_path

    print(main(sys.argv[1] if len(sys.argv) > 1 else str(embedded_path()), AuctionReward(horizon=3)))
