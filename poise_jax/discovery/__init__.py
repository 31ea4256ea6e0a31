"""The search: propose, verify, train, score, reflect, select, again."""
