"""The emulator: both transports, the engine, sources, faults, command line, and gcloud."""
