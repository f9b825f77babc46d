"""What a training run is made of: targets, steps, schedules, the loop over iterations, its log and its end on signals.

``pipeline`` puts them together with data, model and checkpoints. Nothing here imports BasicSR at its top.
"""
