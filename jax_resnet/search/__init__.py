"""Compares training recipes by successive halving."""
