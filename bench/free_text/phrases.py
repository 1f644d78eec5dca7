"""Read reports by phrases and regular expressions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.free_text.clauses import is_negated
from bench.free_text.rules import AttributeRules, Rules, pattern_of


@dataclass(frozen=True)
class _Mention:
    start: int
    end: int
    value: str


class PhraseSelector:
    """Reads by the phrases of the rules; quick enough to be asked again each time."""

    def read(self, reports: Sequence[str], rules: Rules) -> list[dict[str, str | None]]:
        """Return the value of each attribute of each report; see `Selector`."""
        patterns = {name: _patterns_of(each) for name, each in rules.items()}
        return [
            {name: _value(report, patterns[name], each) for name, each in rules.items()}
            for report in reports
        ]


def _patterns_of(rules: AttributeRules) -> list[tuple[str, re.Pattern[str]]]:
    return [(value, pattern_of(each)) for value, said in rules.values.items() for each in said]


def _value(
    report: str, patterns: Sequence[tuple[str, re.Pattern[str]]], rules: AttributeRules
) -> str | None:
    mentions = [
        _Mention(match.start(), match.end(), value)
        for value, pattern in patterns
        for match in pattern.finditer(report)
        if match.end() > match.start()
    ]
    mentions = [each for each in mentions if not any(_inside(each, other) for other in mentions)]
    said = []
    for each in sorted(mentions, key=lambda each: each.start):
        value = rules.negated if is_negated(report, each.start, each.end) else each.value
        if value is not None:
            said.append(value)
    if not said or (len(set(said)) > 1 and rules.several == "unmentioned"):
        return None
    return said[0] if rules.several == "first" else said[-1]


def _inside(mention: _Mention, other: _Mention) -> bool:
    """Say whether a mention is part of a longer one: `network` of `atypical network`."""
    longer = other.end - other.start > mention.end - mention.start
    return longer and other.start <= mention.start and mention.end <= other.end
