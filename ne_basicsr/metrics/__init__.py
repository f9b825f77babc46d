"""Quality of images and curves of it."""
