"""A digital head with known perfusion, and exams of it."""
