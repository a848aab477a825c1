"""The folder of results of a slide: written, read back and exported."""
