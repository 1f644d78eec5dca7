"""What every method must keep, written once: run over the registry by the tests and `bench test`.

A method is built on small tasks of 1 to 4 modalities (pictures, tables, vectors; unequal token
counts; unobserved attributes) and held to the promises of the bench, above all that content of an
absent modality or attribute cannot change an output.
"""

from bench.conformance.promises import Check
from bench.conformance.suite import check_method, run_suite

__all__ = ["Check", "check_method", "run_suite"]
