"""What happened, for good: an append-only SQL archive of campaigns."""
