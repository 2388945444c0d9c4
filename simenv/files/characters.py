"""Characters that people do not see, although models and programs read them."""

from __future__ import annotations

import re
import unicodedata

_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_HIDDEN = "\u200b\u2060-\u2064\ufeff\ufff9-\ufffb\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f"
_LINE = "\t\n\r\u2028\u2029\u00ad\u200e\u200f\u061c"
_IN_TEXT = re.compile(f"[{_CONTROLS}{_HIDDEN}]")
_IN_NAMES = re.compile(f"[{_CONTROLS}{_HIDDEN}{_LINE}]")
_NEVER_SEEN = re.compile(f"[{_CONTROLS}{_HIDDEN}\u00ad\u200c-\u200f\u061c\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def hidden_in_text(text: str) -> str | None:
    """The first character of a longer text that may hide something, as U+202E (NAME); None if there is none.

    These are control characters without tab and line breaks, zero-width spaces, tags, and the characters that turn the
    direction of writing. Joiners, direction marks and soft hyphens are parts of ordinary writing.
    """
    return _named(_IN_TEXT.search(text))


def hidden_in_name(text: str) -> str | None:
    """The same for a text of one line, such as a title: no tab, line break, direction mark or soft hyphen either."""
    return _named(_IN_NAMES.search(text))


def as_seen(text: str) -> str:
    """The text without characters that nobody sees, with single spaces: two texts that look alike become equal."""
    return " ".join(_NEVER_SEEN.sub("", text).split())


def _named(match: re.Match[str] | None) -> str | None:
    if match is None:
        return None
    name = unicodedata.name(match[0], "control character")
    return f"U+{ord(match[0]):04X} ({name})"
