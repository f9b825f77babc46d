"""Clean images in: stores, data sets and the order in which samples are drawn."""
