"""Segmentation: outlines of cells, the size of a pixel, and uneven illumination."""
