"""One algorithm trained and scored: how much, how made harder, and again."""
