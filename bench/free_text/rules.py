"""What rules say of each attribute: its values, the phrases for them, and what a negation means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from bench.errors import BadConfig
from bench.spec import Frozen

REGEX = "re:"  # a phrase that begins so is a regular expression
CASE, TEXT = "case", "report"  # columns of the written table beside the attributes


def _listed(value: object) -> object:
    """Take one phrase for a list of one."""
    return [value] if isinstance(value, str) else value


def _named(value: object) -> object:
    """Take a list of values for a mapping in which each is its own phrase."""
    values = dict.fromkeys(value) if isinstance(value, list) else value
    if not isinstance(values, dict):
        return value
    return {str(name): said if said else [str(name)] for name, said in values.items()}


Phrases = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]


class AttributeRules(Frozen):
    """How one attribute stands in reports."""

    values: Annotated[dict[str, Phrases], BeforeValidator(_named), Field(min_length=1)]
    negated: str | None = Field(None, description="value of a negated mention; none: unmentioned")
    several: Literal["unmentioned", "first", "last"] = Field(
        "unmentioned", description="which value holds if several are mentioned"
    )
    question: str = Field("", description="what an instruction model is asked; empty: the name")

    @field_validator("values")
    @classmethod
    def _patterns(cls, values: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, phrases in values.items():
            if not name.strip():
                raise ValueError("a value is blank; unmentioned needs no value")
            for phrase in phrases:
                pattern_of(phrase)
        return values

    @model_validator(mode="after")
    def _says_negated(self) -> AttributeRules:
        if self.negated is not None and not self.negated.strip():
            raise ValueError("negated is blank; leave it out")
        return self

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All values that there can be, in order."""
        own = tuple(self.values)
        return own if self.negated is None or self.negated in own else (*own, self.negated)


Rules = Mapping[str, AttributeRules]


def pattern_of(phrase: str) -> re.Pattern[str]:
    """Compile a phrase: whole words, any case, any blanks between; or a regular expression.

    Raises:
        ValueError: it is blank, no regular expression, or one that matches nothing at all.
    """
    if phrase.startswith(REGEX):
        try:
            pattern = re.compile(phrase.removeprefix(REGEX), re.IGNORECASE)
        except re.error as error:
            raise ValueError(f"{phrase!r} is no regular expression ({error})") from error
        if pattern.search(""):
            raise ValueError(f"{phrase!r} matches an empty text")
        return pattern
    words = [re.escape(word) for word in phrase.replace("-", " ").split()]
    if not words:
        raise ValueError("a phrase is blank")
    return re.compile(r"(?<!\w)" + r"[\s-]+".join(words) + r"(?!\w)", re.IGNORECASE)


def checked_rules(rules: Mapping[str, Any]) -> dict[str, AttributeRules]:
    """Build the rules of each attribute.

    Raises:
        BadConfig: there are none, or one cannot be used; names attribute and key.
    """
    if not rules:
        raise BadConfig("the rules name no attribute; say {attribute: {values: {value: [phrase]}}}")
    found = {}
    for name, said in rules.items():
        if name in (CASE, TEXT):
            raise BadConfig(f"an attribute from free text cannot be named {name!r}; rename it")
        try:
            found[str(name)] = AttributeRules.model_validate(said)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(["rules", str(name), *map(str, first["loc"])])
            reason = first["msg"].removeprefix("Value error, ")
            raise BadConfig(f"{key}: {reason[:1].lower()}{reason[1:]}; mend the rules") from None
    return found
