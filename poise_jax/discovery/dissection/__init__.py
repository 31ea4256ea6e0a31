"""Why a winner wins: what it needs, and what its effect is not."""
