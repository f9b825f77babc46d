"""Models: what BasicSR calls the object that owns networks, optimizers and the training step."""
