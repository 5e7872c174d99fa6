"""Run folders: what is written, read, saved and tracked."""
