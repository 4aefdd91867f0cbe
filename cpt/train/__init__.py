"""Training of one stage: TRL's trainers on the stage's samples, in a process of its own."""
