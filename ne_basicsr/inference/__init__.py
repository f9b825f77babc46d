"""Using networks: loading, tiles, image files, export, adapters for other libraries."""
