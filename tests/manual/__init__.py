"""The manual says what the code does: each page is held to the module that it describes."""
