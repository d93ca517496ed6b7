"""Guards and effects of the life cycle's table: small pure functions on a ``Draft``.

A guard says whether a row applies; an effect does what the row requires beyond the change of state. Rows are numbered
as in docs/explanation/domain.md, "The life cycle of a claim item".

- ``review``: rows 1 to 7 and 20, from filing to the first decision
- ``notices``: the notices that begin windows
- ``counters``: rows 8 to 15 and 17
- ``interruptions``: rows 16, 18, 21 and 22, which may apply in any state
- ``complaints``: row 19
- ``decisions``: who may send a command, and what a reviewer may decide
"""
