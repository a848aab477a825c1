"""What the docks share."""
