"""The arguments of operators and of the sensor: what they may be, and when that is checked."""
