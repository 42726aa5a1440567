"""Perfusion physics: kinetics, signal, deconvolution. Arrays in, arrays out; knows no files and no networks."""
