"""Errors, files, signals, the lock of a run directory, command lines."""
