"""A stand-in for the EU's transparency database: accepts batches of statements of reasons, for tests and trying out.

It checks a batch, all or nothing, against the schema in docs/explanation/domain.md, identifies a statement by its
`puid`, answers like the real one, and fails on demand. It is independent of the code that makes statements, so that
each checks the other.
"""
