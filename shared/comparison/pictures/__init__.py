"""Comparison of pictures: a right's pictures in those of a listing. Pure, and the same for claims and screening.

Hashes are compared without further packages. Hashing needs NumPy, details OpenCV, and opening a picture Pillow: these
are in ``pdq``, ``details`` and ``looking``, which nothing here imports by itself. Why so: decision 80.
"""

from shared.comparison.pictures.comparing import Picture, Reference, compare, find
from shared.comparison.pictures.hashes import Hashed, candidates, stock
from shared.comparison.pictures.types import Box, Finding

__all__ = ["Box", "Finding", "Hashed", "Picture", "Reference", "candidates", "compare", "find", "stock"]
