"""The compose file of an installation on one host, generated from the fleet's table, and its secrets.

It uses only what docker-compose 1.29 supports of the Compose Specification (no `name`, no `start_interval`, no long
`env_file`), so both docker-compose and the current plugin accept it.
"""
