"""The rules for the arguments of operators and of the sensor, and the times at which they are checked."""
