"""Losses: files named ``*_loss.py`` are imported and register themselves in BasicSR's LOSS_REGISTRY."""
