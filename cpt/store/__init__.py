"""The run folder: layout, markers, files and what they must hold."""
