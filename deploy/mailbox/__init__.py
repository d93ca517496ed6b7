"""A real SMTP server on loopback that keeps what it is sent: the demo's and the tests' mail provider.

Below its folder: `mailbox.jsonl`, one line for each accepted message (`time`, `from`, `to`, `subject`, `message_id`,
`size` in bytes, `file`), and the raw messages under `mail/`.
"""
