"""Checkpoints: read safely, matched to networks, converted from other toolboxes; the shipped models."""
