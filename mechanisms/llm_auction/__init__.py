"""LLM-Auction (arXiv 2512.10551): a language model trained for the platform's reward is the allocation rule.

mechanism.py       LLMAuction, built by `make_mechanism("llm_auction")`
written.py         the written format: one call writes the whole answer; the writer `tuned`
slim.py            the slim format: one call chooses the links
intent.py          which questions are answered with ads at all
policy.py          the base model with an adapter, and its exact log-probabilities (torch)
lora.py            the adapter (torch)
adapter_files.py   the files of an adapter, among them the one that ships
sampling.py        samples answers for training, on a CPU or many at once on a GPU

train.py           `simenv train llm-auction`: the training loop and its learning curve
irpo.py            Algorithm 1, its losses and all options
levels.py          what a response is: links, a whole answer
label_choice.py    ... or the choice of an ad at a place of an answer
sentence_choice.py ... or a sentence at a place of an answer
by_question.py     ... or one of these by the kind of question
sft.py             examples, and the fine-tuning that comes first
reward_model.py    pCTR: eq. 3-4
click_features.py  what pCTR reads of an answer
part_auctions.py   auctions of the training, validation and test part
split.py           the split of personas and ads into these parts
models.py          policy, level, judge and objective of a training
spread.py          sampling and judging in this process, or in workers
served.py          sampling on a server that loads the adapter of each epoch
folder.py          the folder of a training: options, saved state, manifest
pairs.py           `simenv train llm-auction --from FILE`: DPO on exported preference pairs
pair_data.py       the pairs of a file, and the options and state that both back ends of pairs.py use
trl_backend.py     the same with TRL and peft
"""

from .mechanism import LLMAuction

__all__ = ["LLMAuction"]
