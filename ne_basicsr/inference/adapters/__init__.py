"""Other libraries: their networks in this package, and networks of this package there.

One module per library, with the library's name; it needs the extra of the same name.
"""
