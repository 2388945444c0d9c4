"""The form of a link in an answer, `@Ad Title@[Ad-ID]`, and text without it.

Only a mechanism places links. An ad's copy, a query, a persona or the free text of a model that holds one, or pieces of
one, would place another advertiser's ad or break its link: such text loses its mark-up where it enters.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

LINK = re.compile(r"@(?P<title>[^@\[\]\n]+)@\[(?P<id>[^\[\]\n]*)\]")

# Pieces of mark-up that remain after all well-formed links are removed. E-mail addresses and @handles do not match: an
# opening @ must not follow a word character, and a closing @ must not follow a space.
BROKEN = re.compile(
    r"(?<!\w)@[^@\[\]\n]{1,120}(?<!\s)@(?!\w)(?:\[[^\]\n]*\]?)?"  # a title in @...@ with no readable id
    r"|@?\[(?:ad[-_ ]?id|ad)\b[^\]\n]*\]?"  # the placeholder of the instruction itself
    r"|\w?@\[[^\]\n]*\]?",  # an id without a title
    re.IGNORECASE,
)
_CHARACTERS = str.maketrans("", "", "@[]")
_MAX_ROUNDS = 8


def without_links(text: str) -> str:
    """The text without mark-up: a link becomes its title, and pieces of links lose the characters @ [ ].

    Other text, with e-mail addresses, @handles and brackets, stays as it is.
    """
    if "@" not in text and "[" not in text:
        return text
    for _ in range(_MAX_ROUNDS):  # what is left may form another link
        plain = BROKEN.sub(lambda found: found[0].translate(_CHARACTERS), LINK.sub(lambda link: link["title"], text))
        if plain == text:
            return text
        text = plain
    return text.translate(_CHARACTERS)


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC), as tokenizers and models write it: a link must be copied exactly."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


OutsideText = Annotated[str, AfterValidator(without_links)]
"""Text of an advertiser or a user: links in it become plain text."""
LinkText = Annotated[str, AfterValidator(composed)]
"""The title in a link."""


def masked_links(text: str) -> str:
    """Replaces every link by as many dashes, so that no sentence ends inside a link."""
    return LINK.sub(lambda match: "-" * len(match.group()), text)
