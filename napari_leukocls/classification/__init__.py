"""Classification: crops of cells, and the classifier that gives their probabilities."""
