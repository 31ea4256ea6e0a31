"""Parameters and a task in, scores with intervals out."""
