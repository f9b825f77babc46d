"""What every room uses: errors, whole files, file names, progress, processes that work together."""
