"""Pure reward functions: text in, a score with its parts out."""
