"""Measurements of networks, one subfolder each, and the reports made of them."""
