"""Training: from labelled crops to a model folder that analysis can use.

`iter_train` (in ``loop``) does the work and yields what happens; ``process`` runs it in a process of its own.
"""
