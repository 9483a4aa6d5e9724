"""The life of one task's job, from its submit to its end."""
