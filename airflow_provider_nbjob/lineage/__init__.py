"""Report what a task's job read and wrote: to OpenLineage, and in the events of the task's assets."""
