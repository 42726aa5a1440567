"""Perfusion physics: kinetics, signal and the digital phantom. Knows no files and no networks."""
