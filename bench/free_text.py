"""Attributes from free text: which value of each attribute a report mentions, if any.

What is not mentioned stays unknown (None) and is never read as negative: the selector of
AlignedFusion (MIDL 2026, under review), section 3. Two ways to read are given, both bound to the
vocabulary that the rules declare: phrases and regular expressions, or a local instruction model
(`bench.encoders.instruction`). What was read can be written out as a table, corrected by a person,
and handed back; the corrected table then says all.

How phrases and negations are matched is ours; it follows the idea of NegEx (Chapman et al., 2001):
a cue negates what stands near it in its clause.
"""

# N reports

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from bench.clauses import is_negated
from bench.errors import BadConfig, BadData
from bench.spec import Frozen

if TYPE_CHECKING:
    import pandas as pd

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


class Selector(Protocol):
    """Reads the attributes of reports."""

    def read(self, reports: Sequence[str], rules: Rules) -> list[dict[str, str | None]]:
        """Return the value of each attribute of each report, None where it is not mentioned.

        Values are of each attribute's vocabulary.
        """
        ...


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


def attributes_of(
    reports: Sequence[str | None],
    rules: Mapping[str, Any],
    *,
    model: str = "",
    selector: Selector | None = None,
) -> pd.DataFrame:
    """Read the attributes of reports.

    Args:
        reports: N texts; None or a blank one mentions nothing.
        rules: by attribute, what `AttributeRules` says: values with their phrases, and the value
            of a negated mention if it has one.
        model: folder of a local instruction model that reads in place of the phrases.
        selector: another way to read.

    Returns:
        (N,) rows with one column per attribute: a value of its vocabulary, or None.

    Raises:
        BadConfig: the rules or the model cannot be used.
        BadData: a report is longer than the model can read.
    """
    import pandas as pd

    declared = checked_rules(rules)
    there = [place for place, report in enumerate(reports) if report and report.strip()]
    reader = selector or _selector(model)
    read = reader.read([str(reports[place]) for place in there], declared)
    rows: list[dict[str, str | None]] = [dict.fromkeys(declared) for _ in reports]
    for place, found in zip(there, read, strict=True):
        rows[place] = {name: _known(found[name], name, declared) for name in declared}
    return pd.DataFrame(rows, columns=list(declared), dtype=object)


def _selector(model: str) -> Selector:
    if not model:
        return PhraseSelector()
    from bench.encoders.instruction import InstructionSelector

    return InstructionSelector(model)


def _known(value: str | None, name: str, rules: Rules) -> str | None:
    if value is not None and value not in rules[name].vocabulary:
        raise ValueError(f"a selector says {name} is {value!r}, which its rules do not know")
    return value


def write_attributes(
    path: Path, cases: Sequence[str], reports: Sequence[str | None], found: pd.DataFrame
) -> None:
    """Write what was read as a CSV table that a person can correct: a blank is unmentioned.

    Args:
        path: of the table; its folder must exist.
        cases: (N,) names.
        reports: (N,) texts.
        found: (N,) as of `attributes_of`.

    Raises:
        BadConfig: the file cannot be written, or is there already: it may hold corrections.
    """
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([CASE, *found.columns, TEXT])
            rows = found.itertuples(index=False)
            for case, report, row in zip(cases, reports, rows, strict=True):
                cells = [cell if isinstance(cell, str) else "" for cell in row]
                writer.writerow([case, *cells, report])
    except FileExistsError:
        raise BadConfig(
            f"{path} is there already and may hold corrections; name another file"
        ) from None
    except OSError as error:
        raise BadConfig(f"{path} cannot be written ({error.strerror})") from error


def with_corrections(
    found: pd.DataFrame, cases: Sequence[str], rules: Mapping[str, Any], path: Path
) -> pd.DataFrame:
    """Return the attributes with those of a corrected table in place of what was read.

    A case that the table has is as the table says, blanks too; a column that it lacks, and a case
    that it lacks, stay as they were read.

    Args:
        found: (N,) as of `attributes_of`.
        cases: (N,) names.
        rules: as of `attributes_of`.
        path: the table, as `write_attributes` wrote it.

    Raises:
        BadData: the table cannot be read, names an unknown case, or holds a value that the rules
            do not know; names file, line and column.
    """
    import pandas as pd

    from bench.dataset import bad_cell, read_table, unique_names

    declared = checked_rules(rules)
    table = read_table(path, (CASE,), delimiter="")  # spreadsheets save their own
    row_of = {case: row for row, case in enumerate(cases)}
    names = unique_names(table[CASE], source=str(path))
    unknown = [place for place, name in enumerate(names) if name not in row_of]
    if unknown:
        raise bad_cell(table[CASE], unknown[0], "a case of the data", source=str(path))
    columns = [column for column in table.columns if column in declared]
    if not columns:
        raise BadData(f"{path}: no column is one of {', '.join(declared)}; mend the header")
    corrected = found.copy()
    rows = [row_of[name] for name in names]
    for column in columns:
        vocabulary = declared[column].vocabulary
        wrong = ~(table[column].isna() | table[column].isin(vocabulary)).to_numpy()
        if wrong.any():
            wanted = f"one of {', '.join(vocabulary)} or blank"
            raise bad_cell(table[column], int(wrong.argmax()), wanted, source=str(path))
        values = corrected[column].tolist()
        for row, cell in zip(rows, table[column], strict=True):
            values[row] = cell if isinstance(cell, str) else None
        corrected[column] = pd.Series(values, corrected.index, dtype=object)
    return corrected
