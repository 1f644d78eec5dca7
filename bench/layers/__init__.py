"""Neural parts to build methods from: each file one topic, none needs a method or its settings.

What three or more methods use stands in `bench.blocks`. Equation numbers are those of the paper
that the part comes from; the method that brought it in is named.
"""
