"""The pure core: no I/O, no clock; the same samples and commands give the same events."""
