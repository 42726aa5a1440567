"""What is doubtful about the files of an exam: their times, maps and grids, and those of a folder together."""
