"""Text from outside never becomes a special token: an ad, a query or a persona cannot open a turn of its own.

Chat models tell turns apart by special tokens such as `<|im_start|>`. A tokenizer makes a special token of every copy
of such a string, also of one in an advertiser's text. Neither transformers' `apply_chat_template` nor a server that
renders its template prevents it by default: the text is part of one string then. `split_special_tokens=True` would also
take apart the tokens that the template itself writes, and `sanitize_control_tokens=True` exists only in the latest
versions of transformers, and not for a prompt with the beginning of the answer. So the strings are broken up before the
template sees them: `<|im_end|>` becomes `<| im_end |>`. Text without such a string stays as it is, and so do its ids.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from simenv.llm.requests import Prompt

_FAMILIES = re.compile(
    # Qwen, Llama 3, Phi, gpt-oss, Granite, Cohere; DeepSeek with wide bars; Gemma 4 with one bar
    r"<[|\uff5c](?=\S)[^<>|\uff5c\n]{1,60}(?<=\S)(?:[|\uff5c]>|>)|<(?=\S)[^<>|\uff5c\n]{1,60}(?<=\S)[|\uff5c]>"
    # sentencepiece models, Gemma, tools and reasoning
    r"|</?(?:s|bos|eos|pad|unk|mask|sep|cls|sop|eop|think|thinking|tool_call|tool_calls|tool_response)>"
    r"|<(?:start|end)_of_(?:turn|image|text)>"
    r"|<</?SYS>>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|MODEL_SETTINGS)\]"
    r"|\[(?:CLS|SEP|MASK|PAD|UNK|gMASK|sMASK)\]"
)
"""Special tokens of known model families: a server's tokenizer cannot be asked."""
_EDGES = re.compile(r"([<\[]+[|\uff5c]?)?(.*?)([|\uff5c]?[>\]]+)?", re.DOTALL)
"""Opening brackets, name and closing brackets of a special token."""
_MAX_ROUNDS = 8


def broken_up(text: str, tokens: Iterable[str] = ()) -> str:
    """The text with spaces inside every special token of known model families and every one of `tokens`.

    Text without such a string is returned unchanged.

    Args:
        text: Text from outside.
        tokens: Further strings to break up, such as a tokenizer's own.
    """
    text = _FAMILIES.sub(_spaced, text) if "<" in text or "[" in text else text
    known = [token for token in tokens if token]
    if not known:
        return text
    folded = unicodedata.normalize("NFKC", text)  # a tokenizer may read full-width characters as plain ones
    if folded != text and any(token in folded and token not in text for token in known):
        text = _FAMILIES.sub(_spaced, folded)
    for _ in range(_MAX_ROUNDS):  # what is broken up may contain or form another one
        there = [token for token in known if token in text]
        if not there:
            return text
        for token in sorted(there, key=len, reverse=True):
            text = text.replace(token, _spaced(token))
    for token in known:
        text = text.replace(token, "")
    return text


def safe_prompt(prompt: Prompt, tokens: Iterable[str] = ()) -> Prompt:
    """The prompt with the special tokens in its texts broken up; the same object if there are none."""
    texts = {name: getattr(prompt, name) for name in ("user", "system", "prefill")}
    safe = {name: broken_up(text, tokens) for name, text in texts.items()}
    return prompt if safe == texts else prompt.model_copy(update=safe)


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """The strings that a tokenizer takes for control: its special tokens, and added tokens that its template writes.

    Other added tokens, such as runs of spaces or HTML tags, are plain vocabulary.

    Args:
        tokenizer: A transformers tokenizer.
    """
    template = getattr(tokenizer, "chat_template", None) or ""
    written = " ".join(template.values()) if isinstance(template, dict) else str(template)
    added = {str(token): token.special for token in tokenizer.added_tokens_decoder.values()}
    control = [token for token, special in added.items() if token.strip() and (special or token in written)]
    return tuple(dict.fromkeys([*control, *map(str, tokenizer.all_special_tokens)]))


def _spaced(token: str | re.Match[str]) -> str:
    """The token with spaces inside its brackets: `<| im_end |>`, `[ INST ]`, `< /s >`."""
    token = token if isinstance(token, str) else token[0]
    parts = _EDGES.fullmatch(token)
    pieces = [part for part in parts.groups() if part] if parts else []
    if len(pieces) > 1:
        return " ".join(pieces)
    return f"{token[0]} {token[1:]}" if len(token) > 1 else "\ufffd"
