"""Whole slides: the survey at low resolution, and the analysis of one tile."""
