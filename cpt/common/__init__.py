"""What every room stands on: files that survive a kill, digests, pictures, the console, processes."""
