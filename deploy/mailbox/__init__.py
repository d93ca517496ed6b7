"""A real SMTP server on loopback that stores the mail it receives: the mail provider of the demo and of tests.

Its folder contains `mailbox.jsonl`, one line per accepted message (`time`, `from`, `to`, `subject`, `message_id`,
`size` in bytes, `file`), and the raw messages under `mail/`.
"""
