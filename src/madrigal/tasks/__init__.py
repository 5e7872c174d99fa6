"""Tasks that come with Madrigal: writing, coding, discussion, games."""
