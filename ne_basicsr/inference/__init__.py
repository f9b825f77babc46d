"""Networks that are ready to call: opened, tiled, run over files, exported, lent to other libraries."""
