"""LLM-Auction (arXiv 2512.10551): a language model trained for the platform's reward is the allocation rule.

slim.py          the prompt format for small models, and the choices it allows
policy.py        the base model with an adapter, and its exact distribution over choices (torch)
lora.py          the adapter (torch)
levels.py        the policy interface of IRPO, for choices of links and for whole answers
reward_model.py  pCTR: eq. 3-4
click_features.py  what pCTR reads of an answer
irpo.py          Algorithm 1, its losses and all hyper-parameters
train.py         `simenv train llm-auction`: the training loop and its learning curve
pairs.py         `simenv train llm-auction --from FILE`: DPO on exported preference pairs
pair_data.py     the pairs of a file, and the options and state that both back ends of pairs.py use
trl_backend.py   the same with TRL and peft
folder.py        the folder of a training: options, saved state, manifest
split.py         the split of personas and ads into training, validation and test
mechanism.py     LLMAuction, built by `make_mechanism("llm_auction")`
"""

from .mechanism import LLMAuction

__all__ = ["LLMAuction"]
