"""The counter of the Review dock: cells counted with keys, as on a bench counter."""
