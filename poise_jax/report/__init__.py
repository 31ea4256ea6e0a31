"""An archive as people read it: a leaderboard, figures and one HTML page."""
