"""Records to HTML pages."""
