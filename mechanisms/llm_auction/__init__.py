"""LLM-Auction (arXiv 2512.10551): the language model itself is the allocation rule, trained for the platform's reward.

slim.py          the auction as a small model can read it, and the choices it can make
policy.py        the base model with an adapter, and its exact distribution over choices (torch)
lora.py          the adapter (torch)
levels.py        what IRPO needs of a policy, for choices of links and for whole answers
reward_model.py  pCTR: eq. 3-4
irpo.py          Algorithm 1, its losses and every hyper-parameter
train.py         `simenv train llm-auction`: the loop and its learning curve
pairs.py         `simenv train llm-auction --from FILE`: DPO on exported preference pairs
pair_data.py     a file of pairs, and what both back ends of pairs.py share
trl_backend.py   the same with TRL and peft
folder.py        a training's folder: options, saved state, manifest
split.py         which personas and ads are trained on
mechanism.py     LLMAuction, what `make_mechanism("llm_auction")` builds
"""

from .mechanism import LLMAuction

__all__ = ["LLMAuction"]
