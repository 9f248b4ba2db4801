"""Who gets in, and what stays out."""
