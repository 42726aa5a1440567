"""Ways to make maps: a trained network, a conventional method."""
