"""How well a model does, with intervals: classification, calibration, and finding cells."""
