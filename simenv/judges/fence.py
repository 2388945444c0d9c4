"""Fences judged text in a prompt, so that the text cannot end the fence and pass as an instruction.

The fence contains a code that is drawn by key for each judgement, so an author of the text cannot know it. In addition,
`neutralize` escapes fence-like delimiters: tags in angle brackets or look-alikes, and Markdown code fences. It also
removes invisible characters (zero width, writing direction), which hide words from a person but not from a model.
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
"""Angle brackets and look-alikes: full width, small, mathematical, ornamental, Canadian syllabics."""
_CODE_FENCE = re.compile(r"`{3,}|~{3,}")
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Cn"})
_LINE_BREAKS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")


def neutralize(text: str, max_chars: int) -> str:
    """Escapes delimiters ("</answer>" becomes "‹/answer›"), removes invisible characters and cuts long text.

    Args:
        text: Query, answer or other text from an untrusted author.
        max_chars: Length limit. Longer text is cut and ends in " [...]".
    """
    lines = _LINE_BREAKS.sub("\n", text[: 2 * max_chars])
    visible = "".join(c for c in lines if c in "\n\t" or unicodedata.category(c) not in _INVISIBLE)
    plain = _CODE_FENCE.sub("'''", visible.translate(_ANGLES))
    return plain if len(plain) <= max_chars else f"{plain[:max_chars]} [...]"


def fence_code(*key: KeyPart, texts: tuple[str, ...]) -> str:
    """Returns eight hex digits for the fences of one judgement, which occur in none of `texts`."""
    codes = (f"{keyed_int('fence', *key, attempt) % 16**8:08x}" for attempt in count())
    return next(code for code in codes if not any(code in text for text in texts))
