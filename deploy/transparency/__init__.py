"""A stand-in for the EU's transparency database: takes batches of statements of reasons, for tests and for trying out.

It checks what docs/domain.md says of the schema, all or nothing, knows a statement by its `puid`, answers as the real one
does, and fails on demand. Written apart from the code that makes statements, so that each checks the other.
"""
