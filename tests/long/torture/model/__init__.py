"""Random operations from several processes, held against a model: ``--only model``.

``worker`` does the operations and writes down what came of each, ``supervisor`` kills and stops the
workers, ``journal`` reads what they wrote, ``contract`` is the model, and ``search`` looks for an
order in which the model would have given the same answers.
"""
