"""Methods compared with each other over seeds."""
