"""Detectors of backdoored models and of poisoned pairs, one module each."""
