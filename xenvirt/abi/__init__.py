"""Xen's vocabulary: numbers, names and wire structs, no I/O."""
