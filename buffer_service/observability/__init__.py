"""What can be seen of the process from outside: its memory, logs and metrics."""
