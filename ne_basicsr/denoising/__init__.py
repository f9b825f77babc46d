"""Denoising with a network that is ready: arrays, image files, folders of them. Data meets these modules in this order:

inputs (what a command line names, and what becomes of it), picture (files to pixels and back), pixels (pixels through a
network), run (over all files, with what is finished on disk).
"""
