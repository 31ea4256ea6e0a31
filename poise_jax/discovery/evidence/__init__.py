"""What scores allow one to conclude: races, error rates, confirmation."""
