"""Runs on Weights & Biases."""

from experiments.tracking.tracking import Tracking

__all__ = ["Tracking"]
