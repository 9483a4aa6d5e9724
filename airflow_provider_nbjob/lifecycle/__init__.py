"""One task's job, from its submit to its end."""
