"""Exams: reading, preparation, the TFDS data set and batches. Knows no networks."""
