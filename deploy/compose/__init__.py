"""The compose file of an installation on one host, made of the fleet's table; and its secrets.

Written for the Compose Specification as docker-compose 1.29 knows it (no `name`, no `start_interval`, no long `env_file`), so
that it and the current plugin take the same file.
"""
