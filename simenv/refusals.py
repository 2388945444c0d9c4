"""Which texts are refusals: the patterns of a whole answer that refuses, and of a sentence that does.

A whole answer is one if it begins like one and is short: answers that say nothing are counted by this, so it must not
take a longer answer that begins with an excuse. A sentence is one if it has, anywhere, a phrase with which assistants
refuse: this is one sign of several in the measure of quality, which weighs sentences. Both patterns are of English.
"""

from __future__ import annotations

import re

_LONGEST = 300
"""Characters of a refusal: a longer answer that begins with "I can't" says something too."""
_FIRST_WORDS = r"""
        i(?:\ (?:can(?:no|['\u2019])?t|could(?:\ not|n['\u2019]t)|won['\u2019]?t|will\ not|must\ (?:decline|refuse)
              |(?:do\ not|don['\u2019]t)\ feel\ comfortable|refuse|have\ to\ decline|decline)
          |(?:['\u2019]?m|\ am)\ (?:not\ able|unable|sorry)
          |['\u2019]ll\ have\ to\ decline)
"""
_MAY_HOLD = re.compile(_FIRST_WORDS, re.VERBOSE | re.IGNORECASE)
"""A part of every refusal. No sentence ends in it, so it is in the answer with ads too; it is fast to look for."""
_BEGINS = re.compile(
    r"""(?:(?:i['\u2019]?m|i\ am)\ (?:so\ |very\ |really\ )?sorry|sorry|unfortunately|my\ apologies|i\ apologi[sz]e)?
        [\s,.:;!\u2013\u2014-]*(?:but\ |however,?\ )?(?:as\ an?\ (?:ai|language)[\w\s-]{0,40},?\ )?
    """
    + _FIRST_WORDS
    + r"(?:\ to)?\b(?!\ (?:wait|imagine|believe|say\ enough|stress))",
    re.VERBOSE | re.IGNORECASE,
)
_PHRASE = re.compile(
    r"\b(?:I|we)\b[^.!?]{0,40}?\b(?:sorry|afraid|unable|decline|apologi[sz]e|can(?:no|['’])t|can not|couldn['’]t"
    r"|won['’]t|will not|would rather not|do(?:n['’]| no)t (?:know|have)|lack"
    r"|not (?:able|allowed|permitted|comfortable|qualified)"
    r"|(?:no|nothing) (?:opinion|answer|information|knowledge|say))\b"
    r"|\bas an? (?:AI|artificial|virtual|language)\b|\b(?:outside|beyond|against) (?:of )?(?:my|what I)\b"
    r"|\b(?:falls?|goes|lies|is) (?:outside|beyond|against)\b[^.!?]*\b(?:I|we|my|our)\b"
    r"|\bnot something (?:that )?I\b|\bis there (?:something|anything) else\b",
    re.IGNORECASE,
)


def may_hold_refusal(text: str) -> bool:
    """Whether a text has the words that every refusal has: False is certain, and fast."""
    return _MAY_HOLD.search(text) is not None


def is_a_refusal(text: str) -> bool:
    """Whether a text is nothing but a refusal. Give it without its ads."""
    return 0 < len(text) <= _LONGEST and _BEGINS.match(text) is not None


def sounds_like_refusal(sentence: str) -> bool:
    """Whether a sentence has a phrase with which assistants refuse."""
    return bool(_PHRASE.search(sentence))
