"""A small marketplace for the demo and tests that implements the contract of shared/marketplace.py.

It reads marketplace.commands and marketplace.seller_commands, and writes the receipts of both, marketplace.listings and
marketplace.sellers. The same process serves listing pages and the HTTP adapter's API; HTTP requests go through a queue,
so that listings have a single writer.
"""
