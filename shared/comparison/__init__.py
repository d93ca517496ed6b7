"""Comparison of marks with listings: what text reads as, which marks are in it, and as what they stand there.

Pure, and the same for claims and screening: no I/O but the package's own data files. Every finding states its rule, its
place in the original text, its score, and what speaks against it. Why so: decision 69.
"""

from shared.comparison.marks import Marks, comparable, compare
from shared.comparison.reading import normalise
from shared.comparison.types import OBFUSCATED, Content, Finding, Mark, Permission

__all__ = ["OBFUSCATED", "Content", "Finding", "Mark", "Marks", "Permission", "comparable", "compare", "normalise"]
