"""The paper's study: what is trained and scored, in which order, by which processes, and what comes out."""
