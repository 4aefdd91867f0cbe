"""The built-in world: its tasks, its model, and how that was trained."""
