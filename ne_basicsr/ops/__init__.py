"""Arithmetic on tensors: equivariance, padding, noise, degradations. No networks, no files, no BasicSR."""
