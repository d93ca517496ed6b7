"""What versions before wrote and could read, frozen at each release, beside what is written and read now."""
