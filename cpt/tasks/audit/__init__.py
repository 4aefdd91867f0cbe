"""What is wrong with the data of a task, row by row: `scan.audit` looks at every row once, one picture at a time."""
