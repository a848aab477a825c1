"""From labels and predictions to the table of cells and the differential count."""
