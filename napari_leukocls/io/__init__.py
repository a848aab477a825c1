"""Images are read here, and files are written so that they are whole or absent."""
