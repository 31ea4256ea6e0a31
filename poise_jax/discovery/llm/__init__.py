"""Language models asked, recorded, replayed and paid for."""
