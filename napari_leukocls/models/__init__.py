"""Model folders: the card, the weights, where models are found, and how they are installed."""
