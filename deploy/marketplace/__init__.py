"""A small marketplace for demo and tests that speaks the port's contract (shared/marketplace.py).

Reads marketplace.commands and marketplace.seller_commands; writes the receipts of both, marketplace.listings and
marketplace.sellers. Listing pages and the HTTP adapter's door
are in the same process; what comes in by HTTP goes through a queue, so that listings have a single writer.
"""
