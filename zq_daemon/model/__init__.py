"""The vocabulary: frozen values in the terms of the field; no I/O, no behaviour that waits."""
