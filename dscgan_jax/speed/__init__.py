"""How fast a config is on this machine, and the page about it."""
