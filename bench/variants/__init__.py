"""Ablations and sensitivity studies: the variants of one method, their tables and figures."""
