"""The command `doctor`: check what notebook jobs need, from the connection to the quota, and say what to do."""
