"""Other libraries: their networks here, and the networks of this package there.

One module per library, named like it; each needs the extra of that name, and nothing else of the package needs them.
"""
