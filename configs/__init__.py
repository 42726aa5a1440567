"""Short configuration files; each says only what differs from default.py."""
