"""Makes the pages of the documentation site that are read from the program, the models' cards and kept figures."""
