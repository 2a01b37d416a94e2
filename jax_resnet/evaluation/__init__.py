"""Evaluates logits: metrics, calibration, confidence intervals and a report."""
