"""Analysis: from the pixels of a field to its cells and counts. Nothing is written here."""
