"""Training: targets, steps, the loop over iterations, its log and how it ends on signals.

``pipeline`` combines them with data, model and checkpoints; it alone imports BasicSR at its top.
"""
