"""Pictures of the twin's world."""
