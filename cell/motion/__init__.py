"""Where the arm has to go, and how it gets there within its limits."""
