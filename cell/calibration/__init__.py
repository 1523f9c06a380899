"""Camera and arm calibrated together, from pictures of a board that the arm holds."""
