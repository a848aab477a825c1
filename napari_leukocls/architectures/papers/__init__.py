"""The networks of published papers, one module per paper or family."""
