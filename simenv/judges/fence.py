"""Text that a judge reads is material, never an instruction: it stands in a fence that it cannot close.

The fence carries a code drawn by key for each judgement, which nobody who wrote the text can know. The rest takes the
force out of what looks like a fence anyway: tags in any brackets that look like angles, Markdown's code fences, and
characters that are not seen (zero width, writing direction), which hide words from a reader and not from a model.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import count

from simenv.seeding import KeyPart, keyed_int

_ANGLES = str.maketrans(
    dict.fromkeys("<\uff1c\ufe64\u2329\u3008\u27e8\u276e\u2770\u1438\u02c2\u227a\u00ab", "‹")
    | dict.fromkeys(">\uff1e\ufe65\u232a\u3009\u27e9\u276f\u2771\u1433\u02c3\u227b\u00bb", "›")
)
"""Angle brackets and what looks like them: full width, small, mathematical, ornamental, Canadian syllabics."""
_CODE_FENCE = re.compile(r"`{3,}|~{3,}")
_UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs", "Cn"})
_LINE_BREAKS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")


def neutral(text: str, longest: int) -> str:
    """The text without its force: "</answer>" becomes "‹/answer›", unseen characters go, what is too long is cut.

    Args:
        text: Query, answer or anything else that somebody else wrote.
        longest: Most characters.
    """
    lines = _LINE_BREAKS.sub("\n", text[: 2 * longest])
    seen = "".join(c for c in lines if c in "\n\t" or unicodedata.category(c) not in _UNSEEN)
    plain = _CODE_FENCE.sub("'''", seen.translate(_ANGLES))
    return plain if len(plain) <= longest else f"{plain[:longest]} [...]"


def fence_code(*key: KeyPart, texts: tuple[str, ...]) -> str:
    """Eight hex digits for the fences of one judgement, in none of its texts."""
    codes = (f"{keyed_int('fence', *key, attempt) % 16**8:08x}" for attempt in count())
    return next(code for code in codes if not any(code in text for text in texts))
