"""A stand-in for two registers of trade marks: it answers in the public formats of the EUIPO and of the USPTO."""
