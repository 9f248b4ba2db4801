"""Real processes under load, killed at random: every acknowledged write must be stored, once."""
