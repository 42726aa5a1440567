"""What one start works out and the next ones need not: programs and descriptions, kept on this machine."""
