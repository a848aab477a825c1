"""Labelled data as people have it: class folders, tables, and annotations of other programs."""
