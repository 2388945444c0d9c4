"""Constrained decoding: which tokens may come next so that ad mark-up is valid by construction.

Allowed strings are kept as a trie of their canonical tokenizations. `OneOf` starts inside the trie and ends at a
leaf; `LinksOnly` enters it whenever a link's first token is sampled and bans every other token that contains one of
the mark-up characters @ [ ].
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import torch

from simenv.errors import MissingCapability
from simenv.llm.base import LinksOnly, OneOf


class Node:
    """A trie node: token id -> child. `end` = a whole string ends here. `height` = tokens of the longest inserted."""

    __slots__ = ("children", "end", "height")

    def __init__(self) -> None:
        self.children: dict[int, Node] = {}
        self.end = False
        self.height = 0

    def insert(self, ids: list[int]) -> None:
        self.height = max(self.height, len(ids))
        node = self
        for token in ids:
            node = node.children.setdefault(token, Node())
        node.end = True


class TokenTable:
    """What the constraints need to know of a tokenizer.

    Args:
        tokenizer: A transformers tokenizer.
        vocab_size: Width of the model's logits (may exceed the tokenizer's).
    """

    def __init__(self, tokenizer: Any, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self.eos: int = tokenizer.eos_token_id
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self.markup = torch.zeros(vocab_size, dtype=torch.bool)
        """True for every token that contains a mark-up character: shape (vocab_size,)."""
        bytes_of_markup = {f"<0x{ord(character):02X}>" for character in "@[]"}  # as tokenizers with byte fallback have
        self.markup[
            [i for i, piece in enumerate(pieces) if piece and (set(piece) & set("@[]") or piece in bytes_of_markup)]
        ] = True
        self.trie = lru_cache(maxsize=512)(self._trie)

    def encode(self, text: str) -> list[int]:
        """Tokens of `text` as a continuation: no special tokens.

        Raises:
            MissingCapability: the tokenizer does not give the text back.
        """
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        if self._tokenizer.decode(ids) != text:
            raise MissingCapability(f"the tokenizer cannot reproduce {text!r}, so it cannot be constrained to it")
        return ids

    def encode_under(self, text: str, constraint: object) -> list[int]:
        """Tokens of `text` as decoding under `constraint` writes it: links, each with its space, stand by themselves.

        Raises:
            MissingCapability: the tokenizer does not give the text back.
        """
        if not isinstance(constraint, LinksOnly) or not constraint.links:
            return self.encode(text)
        pieces = re.split(rf"( ?(?:{'|'.join(map(re.escape, constraint.links))}))", text)
        return [token for piece in pieces for token in self.encode(piece)]

    def _trie(self, constraint: LinksOnly | OneOf) -> Node:
        root = Node()
        if isinstance(constraint, OneOf):
            for option in constraint.options:
                root.insert(self.encode(option))
        else:
            for link in constraint.links:
                root.insert(self.encode(link))
                root.insert(self.encode(" " + link))  # in running text the space belongs to the first token
        return root


class Guide:
    """Follows one completion and says which tokens may come next.

    Attributes:
        needs: Tokens of the longest text that must be finished once it is begun: 0 for free text.
        unfinished: Tokens so far of a link that is not complete yet.
        may_end: Whether one option of `OneOf` is complete here and begins another: then to end is a choice.
    """

    def __init__(self, constraint: LinksOnly | OneOf, table: TokenTable) -> None:
        self._table = table
        self._free = isinstance(constraint, LinksOnly)
        self._root = table.trie(constraint)
        self._node: Node | None = None if self._free else self._root
        self.needs = 0 if self._free else self._root.height
        self.unfinished = 0

    @property
    def may_end(self) -> bool:
        return self._node is not None and self._node.end and not self._free

    def allowed(self) -> list[int] | None:
        """Token ids that may come next, or None if any may but those of `banned`."""
        if self._node is None:
            return None
        ids = list(self._node.children)
        return [*ids, self._table.eos] if self.may_end else ids

    def mask(self, logits: torch.Tensor) -> None:
        """Sets the logits of forbidden tokens to -inf, in place. Shape (..., vocab_size)."""
        allowed = self.allowed()
        if allowed is None:
            starts = list(self._root.children)
            kept = logits[..., starts].clone()
            logits[..., self._table.markup] = -torch.inf
            # A link's first token may be a bare space: it opens the link only where it contains the @.
            logits[..., starts] = kept
        else:
            kept = logits[..., allowed].clone()
            logits.fill_(-torch.inf)
            logits[..., allowed] = kept

    def advance(self, token: int) -> bool:
        """Takes the sampled token in. Returns True when the completion is over."""
        if self._node is None:
            child = self._root.children.get(token)
            if child is not None and bool(self._table.markup[token]):
                self._node = None if child.end and not child.children else child
                self.unfinished = 0 if self._node is None else 1
            return False
        if token == self._table.eos:
            return True
        self._node = self._node.children[token]
        if self._node.children:
            self.unfinished += 1
            return False
        if self._free:
            self._node = None
            self.unfinished = 0
            return False
        return True
