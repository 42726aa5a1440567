"""Harms that are done to the program on purpose, a module for each kind of them; `studies/reliability.py` does them."""
