"""The commands; the only place that knows terminals, devices, seeds and exit codes."""
