"""Constrained decoding: restricts the next token so that ad mark-up is valid by construction.

Allowed strings are stored as a trie of their canonical tokenizations. `OneOf` starts inside the trie and ends at a
leaf. `LinksOnly` enters the trie whenever a link's first token is sampled, and forbids every other token that contains
one of the mark-up characters @ [ ]. `LabelledLinks` forbids them too, but for the token that opens a link; after it
the model chooses a label, and the link's tokens are written in the label's place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from simenv.errors import MissingCapability
from simenv.llm.base import LabelledLinks, LinksOnly, OneOf

_SPACES = frozenset(" \n\r\t▁ĠĊčĉ")
"""White space as tokenizers spell it in their pieces."""
_SPACE_BYTES = frozenset(f"<0x{ord(character):02X}>" for character in " \n\r\t")


class Node:
    """A trie node: token id -> child. `end`: a complete string ends here. `height`: length of the longest string."""

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
    """Data about a tokenizer that the constraints need.

    Args:
        tokenizer: A transformers tokenizer.
        vocab_size: Width of the model's logits (may exceed the tokenizer's).
    """

    def __init__(self, tokenizer: Any, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self.eos: int = tokenizer.eos_token_id
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self.markup = np.zeros(vocab_size, dtype=np.bool_)
        """True for every token that contains a mark-up character: shape (vocab_size,)."""
        bytes_of_markup = {f"<0x{ord(character):02X}>" for character in "@[]"}  # pieces of byte-fallback tokenizers
        self.markup[
            [i for i, piece in enumerate(pieces) if piece and (set(piece) & set("@[]") or piece in bytes_of_markup)]
        ] = True
        self.markup_ids = self.markup.nonzero()[0]
        self.blank = np.zeros(vocab_size, dtype=np.bool_)
        """True for every token of white space alone, and for special ones, which are no text: shape (vocab_size,)."""
        no_text = {*tokenizer.all_special_tokens, *_SPACE_BYTES}
        blank = [piece in no_text or (bool(piece) and not set(piece) - _SPACES) for piece in pieces]
        self.blank[: len(blank)] = blank
        self.trie = lru_cache(maxsize=512)(self._trie)
        self.link = lru_cache(maxsize=4096)(self._link)

    def encode(self, text: str) -> list[int]:
        """Tokens of `text` as a continuation: none is a special one, not even where the text spells one.

        Raises:
            MissingCapability: decoding the tokens does not reproduce the text.
        """
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        if self._tokenizer.decode(ids) != text:
            raise MissingCapability(f"the tokenizer cannot reproduce {text!r}, so it cannot be constrained to it")
        return ids

    def ids_of(self, tokens: Sequence[str]) -> list[int]:
        """The ids of tokens of the vocabulary."""
        ids: list[int] = self._tokenizer.convert_tokens_to_ids(list(tokens))
        return ids

    def label(self, label: str) -> int:
        """The token of a label.

        Raises:
            MissingCapability: the tokenizer splits it into several.
        """
        ids = self.encode(f" {label}")
        if len(ids) != 1:
            raise MissingCapability(f"the tokenizer splits the label {label!r} into {len(ids)} tokens")
        return ids[0]

    def _link(self, link: str) -> tuple[int, ...]:
        """Tokens of a link with the space before it, as decoding under `LabelledLinks` writes it: the opener is one.

        Raises:
            MissingCapability: the tokenizer cannot reproduce the link, or has no token for its opener.
        """
        opener = self.encode(f" {link[0]}")
        if len(opener) != 1:
            raise MissingCapability(f"the tokenizer splits {link[0]!r}, which opens a link")
        return (*opener, *self.encode(link[1:]))

    def encode_under(self, text: str, constraint: object) -> list[int]:
        """Tokens of `text` as decoding under `constraint` writes it: each link, with its space, is a separate piece.

        Raises:
            MissingCapability: decoding the tokens does not reproduce the text.
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
                root.insert(self.encode(" " + link))  # within a text, the space is part of the first token
        return root


class LabelGuide:
    """Tracks one completion under `LabelledLinks`.

    Args:
        constraint: The links and their labels.
        table: The tokenizer's table.
        prefill: That of the prompt, which begins the text.

    Attributes:
        needs: As in `Guide`: 0.
        unfinished: 1 after a link was opened and before its label is chosen, else 0.
        begun: Whether the text has a token that is not white space, so that a link may be opened.
        may_end: As in `Guide`: False.
        left: Token of a label that may still be chosen -> its link's tokens after the opener. Empty when the text has
            as many links as it may have.
    """

    needs = 0
    may_end = False

    def __init__(self, constraint: LabelledLinks, table: TokenTable, prefill: str = "") -> None:
        self._table = table
        self._required = constraint.required
        links = [table.link(link) for link in constraint.links]
        self._opener = links[0][0] if links else -1
        self.left = {table.label(label): link[1:] for label, link in zip(constraint.labels, links, strict=True)}
        self._more = len(links) if constraint.most is None else constraint.most
        if not self._more:
            self.left = {}
        self.unfinished = 0
        self.begun = bool(prefill.strip())

    def allowed(self) -> list[int] | None:
        """The allowed next token ids; None in free text."""
        return list(self.left) if self.unfinished else None

    def mask(self, logits: npt.NDArray[np.float32]) -> None:
        """Sets the logits of forbidden tokens to -inf, in place. Shape (..., vocab_size)."""
        if self.unfinished:
            kept = logits[..., list(self.left)]
            logits.fill(-np.inf)
            logits[..., list(self.left)] = kept
            return
        opener = logits[..., self._opener].copy()
        logits[..., self._table.markup_ids] = -np.inf
        if self.left:
            if self.begun:
                logits[..., self._opener] = opener
            if self._required:
                logits[..., self._table.eos] = -np.inf

    def advance(self, token: int) -> bool:
        """Updates the state with a token that was sampled in free text. Returns False: the text never ends here."""
        self.unfinished = int(bool(self.left) and token == self._opener)
        self.begun = self.begun or not self._table.blank[token]
        return False

    def written_for(self, label: int) -> tuple[int, ...]:
        """The tokens that stand in the place of a sampled label. The link cannot be inserted again."""
        self.unfinished = 0
        link = self.left.pop(label)
        self._more -= 1
        if not self._more:
            self.left = {}
        return link


class Guide:
    """Tracks one completion and gives the allowed next tokens.

    Attributes:
        needs: Minimum token limit: the length of the longest option of `OneOf`, 0 for free text.
        unfinished: Number of tokens so far of an incomplete link.
        may_end: Whether the text so far is a complete option of `OneOf` and also a prefix of another one.
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
        """The allowed next token ids; None in free text: all but mark-up tokens, plus the first tokens of links."""
        if self._node is None:
            return None
        ids = list(self._node.children)
        return [*ids, self._table.eos] if self.may_end else ids

    def mask(self, logits: npt.NDArray[np.float32]) -> None:
        """Sets the logits of forbidden tokens to -inf, in place. Shape (..., vocab_size)."""
        allowed = self.allowed()
        if allowed is None:
            starts = list(self._root.children)
            kept = logits[..., starts]
            logits[..., self._table.markup_ids] = -np.inf
            # A link's first token may be a plain space: it starts the link only if it contains the @.
            logits[..., starts] = kept
        else:
            kept = logits[..., allowed]
            logits.fill(-np.inf)
            logits[..., allowed] = kept

    def advance(self, token: int) -> bool:
        """Updates the state with the sampled token. Returns True if the completion is complete."""
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
