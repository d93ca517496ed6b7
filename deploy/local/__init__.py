"""The local stack: a real Kafka and a real PostgreSQL as child processes, and Goodfaith's own processes on them."""
