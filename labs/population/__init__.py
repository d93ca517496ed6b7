"""A population of listings, notifiers and reviewers with known truth, run through the real system.

The generator and the rules that it puts to the test share no constants and no lists of words: nothing here imports
``shared.comparison``, and the generator nothing that does (``.importlinter``).
"""
