"""The page of a study: the paper's figures from our records, every method on the same patients, paired differences.

Knows neither JAX nor files of exams: it gets the records of `evaluation.comparison`, and pictures.
"""
