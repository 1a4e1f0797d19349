"""What the daemon costs, measured; `python -m benchmarks` prints it. See README.md beside this."""
