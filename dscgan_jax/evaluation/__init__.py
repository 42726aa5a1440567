"""Maps against reference maps: metrics, records. Knows no network."""
