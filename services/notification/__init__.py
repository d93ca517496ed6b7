"""Notification, the messenger: tells the parties, and says when it did, for only then does a window begin.

Reads ``verification.events``; writes ``notification.events`` (``NoticeSent`` for each item told of in a message that
starts a window, ``MessageSent`` for each message), both keyed by listing. Asks intake for contacts, at sending time.

Two processes: ``worker`` collects what is to be told and publishes what was sent; ``sender`` closes, renders and sends.
"""
