"""The tokenizer of a model's folder without transformers, which needs seconds to import and loads torch.

It has those methods of a transformers tokenizer that decoding uses, under the same names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


class ChatTokenizer:
    """A tokenizer with a chat template.

    Args:
        folder: A folder with tokenizer.json, tokenizer_config.json and chat_template.jinja.

    Attributes:
        chat_template: The template's text.
        eos_token_id: Id of the token that ends a turn.
        all_special_tokens: Those with a role: they begin and end turns and texts.
        added_tokens_decoder: Id -> token, of all that were added to the vocabulary.
    """

    def __init__(self, folder: Path) -> None:
        from jinja2.sandbox import ImmutableSandboxedEnvironment
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        roles = {role: str(config[role]) for role in _ROLES if config.get(role)}
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        self._template = environment.from_string(self.chat_template, globals=roles)
        eos = self._tokenizer.token_to_id(roles["eos_token"])
        assert eos is not None  # the configuration names a token of the vocabulary
        self.eos_token_id: int = eos
        self.added_tokens_decoder: dict[int, Any] = self._tokenizer.get_added_tokens_decoder()
        self.all_special_tokens = list(dict.fromkeys(roles.values()))

    def __len__(self) -> int:
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return size

    def apply_chat_template(
        self, messages: Sequence[dict[str, str]], *, tokenize: bool = False, add_generation_prompt: bool = True
    ) -> str:
        """The conversation as text."""
        if tokenize:
            raise NotImplementedError("the text is encoded after the prefill was added")
        return self._template.render(messages=messages, add_generation_prompt=add_generation_prompt)

    def encode(self, text: str, *, add_special_tokens: bool = False, split_special_tokens: bool = False) -> list[int]:
        """Token ids of a text; with `split_special_tokens` none is a special one."""
        self._tokenizer.encode_special_tokens = split_special_tokens
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones included."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokens as the vocabulary has them."""
        return list(map(self._tokenizer.id_to_token, ids))

    def convert_tokens_to_ids(self, tokens: Sequence[str]) -> list[int]:
        """The ids of tokens of the vocabulary."""
        return list(map(self._tokenizer.token_to_id, tokens))
