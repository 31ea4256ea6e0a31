"""What is better, and by how much."""
