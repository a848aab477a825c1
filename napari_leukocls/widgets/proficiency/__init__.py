"""The Proficiency dock."""
