"""Language models as scientists."""
