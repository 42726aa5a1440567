"""What is doubtful about a series: arrays in, findings out."""
