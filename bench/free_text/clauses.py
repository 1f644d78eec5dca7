"""Negation in the sentences of reports: which mentions a cue such as `no` or `absent` reaches."""

from __future__ import annotations

import re

MAX_WORDS = 6  # between a cue and what it negates, outside of lists
_ENDS = re.compile(
    r"(?<!\d)\.|\.(?!\d)|[;!?]|\n(?!\s*(?-i:[a-z]))"  # a wrapped line goes on in lower case
    r"|\b(?:but|however|except|although|though|whereas)\b",
    re.IGNORECASE,
)
# What looks like a negation and is none.
_NO_CUES = re.compile(
    r"\b(?:not only|not certain whether|no (?:\w+ )?(?:change|increase|decrease)"
    r"|(?:cannot|can not|could not|not) (?:be )?(?:exclude|rule)d?(?: out)?)\b",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"\b(?:no|not|without|never|neither|nor|absent|absence of|negative for|free of|free from"
    r"|lack(?:s|ing)?|den(?:y|ies|ied)|ruled out|exclud(?:es|ed|ing))\b|n't\b",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"^\W*(?:(?:is|are|was|were|has|have|been|being|could|can|clearly|also)\W+){0,3}"
    r"(?:absent|negative|ruled out|excluded|none"
    r"|(?:not|never)\W+(?:be\W+|been\W+|clearly\W+)?"
    r"(?:seen|present|identified|found|observed|detected|noted|visible|evident|appreciated))\b",
    re.IGNORECASE,
)
_OR = re.compile(r"\b(?:or|nor)\b", re.IGNORECASE)


def is_negated(text: str, start: int, end: int) -> bool:
    """Say whether the mention at these places of a text is negated.

    A cue before it reaches it within its clause, over at most `MAX_WORDS` words, and over commas
    only in a list that ends with `or` or `nor`. A cue after it must follow at once.

    Args:
        text: a report.
        start: first place of the mention.
        end: the place after its last.
    """
    first, last = _clause(text, start, end)
    before, after = _without_no_cues(text[first:start]), text[end:last]
    if _AFTER.match(_without_no_cues(after)):
        return True
    cues = list(_BEFORE.finditer(before))
    if not cues:
        return False
    between = before[cues[-1].end() :]
    if "," in between:
        return bool(_OR.search(between + after))
    return len(between.split()) <= MAX_WORDS


def _clause(text: str, start: int, end: int) -> tuple[int, int]:
    """Return where the clause of a mention begins and ends."""
    ends = [*_ENDS.finditer(text)]
    first = max((each.end() for each in ends if each.end() <= start), default=0)
    last = min((each.start() for each in ends if each.start() >= end), default=len(text))
    return first, last


def _without_no_cues(text: str) -> str:
    return _NO_CUES.sub(lambda match: " " * len(match.group()), text)
