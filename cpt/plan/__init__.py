"""What a recipe means: stages and their keys, epochs, budget of memory and disk, checks before anything starts."""
