"""What an algorithm may be made of, slot by slot."""
