"""Objects that live in other processes, on this machine or others; what they are is not known here."""
