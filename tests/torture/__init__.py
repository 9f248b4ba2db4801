"""Real processes under load, killed at random: what was acknowledged must be there, once."""
