"""From settings to live parts."""
