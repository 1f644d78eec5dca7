"""Attributes from free text: which value of each attribute a report mentions, if any.

What is not mentioned stays unknown (None) and is never read as negative: the selector of
AlignedFusion (MIDL 2026, under review), section 3. Two ways to read are given, both bound to the
vocabulary that the rules declare: phrases and regular expressions, or a local instruction model
(`bench.free_text.instruction`). What was read can be written out as a table, corrected by a person,
and handed back; the corrected table then says all.

How phrases and negations are matched is ours; it follows the idea of NegEx (Chapman et al., 2001):
a cue negates what stands near it in its clause.
"""

from bench.free_text.reading import Selector, attributes_of
from bench.free_text.rules import AttributeRules, Rules, checked_rules
from bench.free_text.tables import with_corrections, write_attributes

__all__ = [
    "AttributeRules",
    "Rules",
    "Selector",
    "attributes_of",
    "checked_rules",
    "with_corrections",
    "write_attributes",
]
