"""Records of a run: written as plain JSON while it goes on, read back for tables and pages."""
