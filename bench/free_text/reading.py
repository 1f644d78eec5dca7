"""Read the attributes of reports, by phrases or by a local instruction model."""

# N reports

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from bench.free_text.phrases import PhraseSelector
from bench.free_text.rules import Rules, checked_rules

if TYPE_CHECKING:
    import pandas as pd


class Selector(Protocol):
    """Reads the attributes of reports."""

    def read(self, reports: Sequence[str], rules: Rules) -> list[dict[str, str | None]]:
        """Return the value of each attribute of each report, None where it is not mentioned.

        Values are of each attribute's vocabulary.
        """
        ...


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
    from bench.free_text.instruction import InstructionSelector

    return InstructionSelector(model)


def _known(value: str | None, name: str, rules: Rules) -> str | None:
    if value is not None and value not in rules[name].vocabulary:
        raise ValueError(f"a selector says {name} is {value!r}, which its rules do not know")
    return value
